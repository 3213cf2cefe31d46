mock_provider "google" {
  override_during = plan
  mock_resource "google_biglake_iceberg_catalog" {
    defaults = { biglake_service_account = "blirc-1234567890-abcd@gcp-sa-biglakerestcatalog.iam.gserviceaccount.com" }
  }
}

variables {
  project_id       = "acme-data"
  name             = "lake"
  default_location = "gs://acme-lake/tables"
  buckets          = ["acme-lake"]
  editors          = { service = "serviceAccount:landfast@acme-data.iam.gserviceaccount.com" }
  viewers          = { analysts = "group:analysts@acme.example" }
}

run "landfast_edits_this_catalog_alone" {
  command = plan

  assert {
    condition     = google_biglake_iceberg_catalog.this.catalog_type == "CATALOG_TYPE_BIGLAKE" && google_biglake_iceberg_catalog.this.default_location == "gs://acme-lake/tables" && google_biglake_iceberg_catalog.this.deletion_policy == "PREVENT"
    error_message = "The catalog is of another kind or place, or goes with a destroy."
  }
  assert {
    condition     = google_biglake_iceberg_catalog_iam_member.editors["service"].role == "roles/biglake.editor" && google_biglake_iceberg_catalog_iam_member.editors["service"].name == "lake"
    error_message = "landfast may not write tables of this catalog."
  }
  assert {
    condition     = google_project_iam_member.consumers["service"].role == "roles/serviceusage.serviceUsageConsumer" && google_project_iam_member.consumers["service"].project == "acme-data"
    error_message = "landfast may not charge the project for its requests."
  }
  assert {
    condition     = google_biglake_iceberg_catalog_iam_member.viewers["analysts"].role == "roles/biglake.viewer" && google_project_iam_member.consumers["viewers/analysts"].role == "roles/serviceusage.serviceUsageConsumer" && google_project_iam_member.consumers["viewers/analysts"].member == "group:analysts@acme.example"
    error_message = "Readers may not ask the catalog, or not charge the project for it."
  }
  assert {
    condition     = length(google_storage_bucket_iam_member.vending) == 0 && google_storage_bucket_iam_member.viewers["acme-lake/analysts"].role == "roles/storage.objectViewer"
    error_message = "Without vending, readers want the bucket, and the catalog's account nothing."
  }
  assert {
    condition     = output.warehouse == "bl://projects/acme-data/catalogs/lake" && output.name == "lake"
    error_message = "The outputs name something else."
  }
}

run "a_catalog_that_vends_reads_by_itself" {
  command = plan

  variables {
    credential_mode = "CREDENTIAL_MODE_VENDED_CREDENTIALS"
  }
  assert {
    condition     = google_storage_bucket_iam_member.vending["acme-lake"].member == "serviceAccount:blirc-1234567890-abcd@gcp-sa-biglakerestcatalog.iam.gserviceaccount.com" && length(google_storage_bucket_iam_member.viewers) == 0
    error_message = "The catalog's account may not open files, or readers may past the catalog."
  }
  assert {
    condition     = output.service_account_email == "blirc-1234567890-abcd@gcp-sa-biglakerestcatalog.iam.gserviceaccount.com"
    error_message = "The output names something else."
  }
}

run "a_location_elsewhere_is_refused" {
  command         = plan
  expect_failures = [var.default_location]

  variables {
    default_location = "s3://acme-lake"
  }
}
