# Applied, with what a mock makes up: that nothing fails which only shows once values are known.
mock_provider "google" {
  mock_data "google_project" {
    defaults = { number = "1234567890" }
  }
  mock_resource "google_service_account" {
    defaults = { email = "one@acme-data.iam.gserviceaccount.com" }
  }
}
mock_provider "time" {}

variables {
  project_id = "acme-data"
  region     = "europe-west1"
  image      = "europe-west1-docker.pkg.dev/acme-data/images/landfast:1.2.3"
  topics     = { orders = {} }
  tables     = { "shop.orders" = { from = [{ subscription = "orders-push" }] } }
}

run "it_can_be_made" {
  command = apply

  variables {
    topics           = { orders = { pull = true } }
    landings         = { landing = {}, drop = { transport = "eventarc" } }
    api_token_secret = "landfast-token"
  }
  assert {
    condition     = contains(keys(output.alert_policies), "nothing_lands") && output.topics == { orders = "projects/acme-data/topics/orders" } && output.service_uri != null && startswith(output.dashboard_url, "https://console.cloud.google.com/monitoring/dashboards/builder/") && length(output.eventarc_subscriptions) <= 1
    error_message = "Something is missing once all is made."
  }
}

run "external_tables_can_be_made" {
  command = apply

  variables {
    catalog_type = "storage"
    bigquery     = { dataset_id = "shop" }
  }
  assert {
    condition     = output.connection_service_account_email != null && yamldecode(output.config_files["service"]).defaults.publish.bigquery.connection == "europe-west1.landfast"
    error_message = "The connection's account is not told."
  }
}
