mock_provider "google" {
  override_during = plan
  mock_resource "google_bigquery_connection" {
    defaults = { cloud_resource = { service_account_id = "bqcx-1234567890-abcd@gcp-sa-bigquery-condel.iam.gserviceaccount.com" } }
  }
  mock_resource "google_project_iam_custom_role" {
    defaults = { name = "projects/acme-data/roles/landfast_delegate" }
  }
}

variables {
  project_id         = "acme-data"
  dataset_id         = "shop"
  location           = "EU"
  warehouse_bucket   = "acme-lake"
  warehouse_location = "eu"
  publishers         = { service = "serviceAccount:landfast@acme-data.iam.gserviceaccount.com" }
}

run "the_connection_reads_and_landfast_publishes" {
  command = plan

  assert {
    condition     = google_storage_bucket_iam_member.connection.bucket == "acme-lake" && google_storage_bucket_iam_member.connection.role == "roles/storage.objectViewer" && google_storage_bucket_iam_member.connection.member == "serviceAccount:bqcx-1234567890-abcd@gcp-sa-bigquery-condel.iam.gserviceaccount.com"
    error_message = "The connection's account does not read the bucket."
  }
  assert {
    condition     = google_bigquery_dataset_iam_member.publishers["service"].role == "roles/bigquery.dataEditor" && google_bigquery_dataset_iam_member.publishers["service"].dataset_id == "shop"
    error_message = "landfast may not make tables in the dataset."
  }
  assert {
    condition     = google_bigquery_connection_iam_member.publishers["service"].role == "projects/acme-data/roles/landfast_delegate" && toset(google_project_iam_custom_role.delegate[0].permissions) == toset(["bigquery.connections.delegate"])
    error_message = "landfast may not name the connection, or may do more with it."
  }
  assert {
    condition     = output.connection == "eu.landfast" && output.dataset_id == "shop" && output.connection_service_account_email == "bqcx-1234567890-abcd@gcp-sa-bigquery-condel.iam.gserviceaccount.com"
    error_message = "The outputs name something else."
  }
}

run "without_a_role_of_its_own" {
  command = plan

  variables {
    create_custom_role = false
  }
  assert {
    condition     = google_bigquery_connection_iam_member.publishers["service"].role == "roles/bigquery.connectionAdmin" && length(google_project_iam_custom_role.delegate) == 0
    error_message = "The role of Google's is not used."
  }
}

run "a_bucket_elsewhere_is_refused" {
  command         = plan
  expect_failures = [google_bigquery_dataset.this]

  variables {
    warehouse_location = "US"
  }
}

run "a_connection_elsewhere_is_refused" {
  command         = plan
  expect_failures = [google_bigquery_connection.this]

  variables {
    connection_location = "europe-west1"
  }
}

run "a_name_that_bigquery_refuses_is_refused" {
  command         = plan
  expect_failures = [var.dataset_id]

  variables {
    dataset_id = "shop-orders"
  }
}
