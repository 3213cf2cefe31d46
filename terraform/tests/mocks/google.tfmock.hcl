# What Google would answer, as far as a test looks at it.
mock_data "google_project" {
  override_during = plan
  defaults        = { number = "1234567890" }
}

mock_resource "google_bigquery_connection" {
  override_during = plan
  defaults        = { cloud_resource = { service_account_id = "bqcx-1234567890-abcd@gcp-sa-bigquery-condel.iam.gserviceaccount.com" } }
}

mock_resource "google_project_iam_custom_role" {
  override_during = plan
  defaults        = { name = "projects/acme-data/roles/landfast_delegate" }
}

mock_resource "google_biglake_iceberg_catalog" {
  override_during = plan
  defaults        = { biglake_service_account = "blirc-1234567890-abcd@gcp-sa-biglakerestcatalog.iam.gserviceaccount.com" }
}
