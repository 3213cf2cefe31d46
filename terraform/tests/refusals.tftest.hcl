# What Terraform can know, it refuses before anything is made.
mock_provider "google" {
  source = "./tests/mocks"
}
mock_provider "time" {}

variables {
  project_id = "acme-data"
  region     = "europe-west1"
  image      = "europe-west1-docker.pkg.dev/acme-data/images/landfast:1.2.3"
  topics     = { orders = {} }
  tables     = { "shop.orders" = { from = [{ subscription = "orders-push" }] } }

  # What is not looked at, so that a run is short.
  activate_apis        = false
  create_monitoring    = false
  maintenance_schedule = null
}

run "a_subscription_that_no_topic_has" {
  command         = plan
  expect_failures = [terraform_data.preconditions]
  variables {
    tables = { "shop.orders" = { from = [{ subscription = "order-push" }] } }
  }
}

run "a_route_of_a_subscription_that_no_topic_has" {
  command         = plan
  expect_failures = [terraform_data.preconditions]
  variables {
    routes = [{ subscription = "cdc-push", table = "cdc.{attributes.table}" }]
  }
}

run "a_subscription_of_others_by_its_full_name" {
  command = plan
  variables {
    tables = { "shop.orders" = { from = [{ subscription = "projects/other/subscriptions/orders" }] } }
  }
  assert {
    condition     = yamldecode(output.config_files["service"]).tables["shop.orders"].from[0].subscription == "projects/other/subscriptions/orders"
    error_message = "It is called otherwise."
  }
  assert {
    condition     = length(google_project_service.apis) + length(time_sleep.apis) == 0
    error_message = "APIs are turned on that somebody else turns on."
  }
}

run "a_bucket_that_is_no_landing_bucket" {
  command         = plan
  expect_failures = [terraform_data.preconditions]
  variables {
    tables = { "shop.orders" = { from = [{ bucket = "acme-landing" }] } }
  }
}

run "the_warehouse_as_a_landing_bucket" {
  command         = plan
  expect_failures = [terraform_data.preconditions]
  variables {
    landings = { landing = { bucket_name = "acme-data-landfast-warehouse" } }
  }
}

run "messages_that_are_kept_longer_than_remembered" {
  command         = plan
  expect_failures = [terraform_data.preconditions]
  variables {
    topics = { orders = { message_retention_duration = "1209600s" } }
  }
}

run "a_topic_that_keeps_longer_than_its_subscription" {
  command         = plan
  expect_failures = [terraform_data.preconditions]
  variables {
    topics = { orders = { topic_message_retention_duration = "2592000s" } }
  }
}

run "a_table_that_forgets_sooner" {
  command         = plan
  expect_failures = [terraform_data.preconditions]
  variables {
    tables = { "shop.orders" = { from = [{ subscription = "orders-push" }], ledger = { retention = "3d" } } }
  }
}

run "two_buckets_of_one_name" {
  command         = plan
  expect_failures = [terraform_data.preconditions]
  variables {
    landings = { a = { bucket_name = "acme-drop" }, b = { bucket_name = "acme-drop" } }
  }
}

run "two_subscriptions_of_one_name" {
  command         = plan
  expect_failures = [terraform_data.preconditions]
  variables {
    topics   = { orders = {}, landfast-drop = {} }
    landings = { drop = {} }
  }
}

run "a_landing_bucket_elsewhere_than_its_key" {
  command         = plan
  expect_failures = [terraform_data.preconditions]
  variables {
    landings     = { drop = { location = "europe-west4" } }
    kms_key_name = "projects/acme-keys/locations/europe-west1/keyRings/lake/cryptoKeys/landfast"
  }
}

run "a_pause_of_what_is_pulled_and_a_page_for_everybody" {
  command         = plan
  expect_failures = [var.topics, var.status_page]
  variables {
    topics      = { orders = { push = false, pull = true, paused = true } }
    status_page = "public"
  }
}

run "an_interval_that_outlasts_the_deadline" {
  command         = plan
  expect_failures = [terraform_data.preconditions]
  variables {
    service_ack_deadline_seconds = 600
    topics                       = { orders = { pull = true } }
    defaults                     = { batch = { commit_interval = "1m" } }
  }
}

run "an_interval_that_the_deadline_leaves_room_for" {
  command = plan
  variables {
    worker_ack_deadline_seconds  = 120
    service_ack_deadline_seconds = 600
    topics                       = { orders = { pull = true } }
    defaults                     = { batch = { commit_interval = "1m" } }
  }
}

run "messages_that_are_kept_for_weeks_in_days" {
  command         = plan
  expect_failures = [var.topics]
  variables {
    topics = { orders = { message_retention_duration = "14d" } }
  }
}

run "an_instance_of_another_project" {
  command         = plan
  expect_failures = [var.cloud_sql]
  variables {
    catalog_type = "sql"
    cloud_sql    = { instance_name = "lake", instance_connection_name = "acme-db:europe-west1:lake" }
  }
}

run "two_levels_of_namespace_in_biglake" {
  command         = plan
  expect_failures = [terraform_data.preconditions]
  variables {
    tables = { "acme.shop.orders" = { from = [{ subscription = "orders-push" }] } }
  }
}

run "nothing_to_ingest" {
  command         = plan
  expect_failures = [terraform_data.preconditions]
  variables {
    topics = {}
    tables = {}
  }
}

run "a_dataset_elsewhere_than_the_bucket" {
  command         = plan
  expect_failures = [var.bigquery]
  variables {
    catalog_type = "storage"
    bigquery     = { dataset_id = "shop", location = "US" }
  }
}

run "a_connection_elsewhere_than_the_dataset" {
  command         = plan
  expect_failures = [var.bigquery]
  variables {
    catalog_type = "storage"
    bigquery     = { dataset_id = "shop", connection_location = "europe-west4" }
  }
}

run "a_bucket_far_from_the_service" {
  command         = plan
  expect_failures = [check.bucket_is_near]
  variables {
    bucket_location = "us-central1"
  }
}

# Each of these is refused by itself; together they take one plan.
run "values_that_google_refuses" {
  command = plan
  expect_failures = [
    var.project_id,
    var.region,
    var.name,
    var.image,
    var.tables,
    var.warehouse_bucket_name,
    var.dead_letters_bucket_name,
    var.service_concurrency,
    var.service_memory,
    var.notification_channels,
    var.soft_delete_retention_seconds,
    var.objects_memory,
    var.worker_memory,
    var.maintenance_memory,
    var.topics,
    var.replayed_retention_days,
    var.confirmed_retention_days,
    var.defaults,
    var.dead_letters_topic,
    var.runbook_url,
  ]
  variables {
    project_id                    = "1234567890"
    region                        = "europe-west1-b"
    name                          = "landfast-of-the-department-of-sales"
    image                         = "gcr.io/acme/landfast:latest"
    tables                        = { orders = { from = [{ subscription = "orders-push" }] } }
    warehouse_bucket_name         = "google-lake"
    dead_letters_bucket_name      = "Letters"
    service_concurrency           = 2000
    service_memory                = "1 GB"
    notification_channels         = ["oncall"]
    soft_delete_retention_seconds = 3600
    objects_cpu                   = "8"
    objects_memory                = "2Gi"
    worker_cpu                    = "2"
    worker_memory                 = "16Gi"
    maintenance_memory            = "256Mi"
    topics                        = { orders = { dead_letter_policy = { topic = "projects/acme-data/topics/dead", max_delivery_attempts = 500 } } }
    ledger_retention_days         = 32
    replayed_retention_days       = 32
    confirmed_retention_days      = 9
    defaults                      = { ledger = { retention = "30d" } }
    dead_letters_topic            = "letters"
    runbook_url                   = "docs/runbook.md"
  }
}

run "catalogs_that_do_not_go_together" {
  command         = plan
  expect_failures = [var.bigquery, var.cloud_sql]
  variables {
    bigquery  = { dataset_id = "shop" }
    cloud_sql = { instance_name = "lake", instance_connection_name = "acme-data:europe-west1:lake" }
  }
}

run "a_catalog_in_cloud_sql_without_an_instance_and_a_key_elsewhere" {
  command         = plan
  expect_failures = [var.cloud_sql, var.kms_key_name]
  variables {
    catalog_type = "sql"
    kms_key_name = "projects/acme-keys/locations/us/keyRings/lake/cryptoKeys/landfast"
  }
}
