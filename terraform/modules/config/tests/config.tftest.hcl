mock_provider "google" {}

variables {
  project_id = "acme-data"
  secret_id  = "landfast-config"
  content    = "tables: {}\n"
  accessors  = { service = "serviceAccount:landfast@acme-data.iam.gserviceaccount.com" }
}

run "the_file_is_kept_and_one_account_reads_it" {
  command = plan

  assert {
    condition     = nonsensitive(google_secret_manager_secret_version.this.secret_data) == "tables: {}\n"
    error_message = "Another content is kept."
  }
  assert {
    condition     = google_secret_manager_secret_version.this.deletion_policy == "ABANDON"
    error_message = "A revision could not be rolled back to."
  }
  assert {
    condition     = google_secret_manager_secret_iam_member.accessors["service"].role == "roles/secretmanager.secretAccessor" && length(google_secret_manager_secret_iam_member.accessors) == 1
    error_message = "Somebody else, or by another role, may read it."
  }
  assert {
    condition     = length(google_secret_manager_secret.this.replication[0].auto) == 1 && length(google_secret_manager_secret.this.replication[0].user_managed) == 0
    error_message = "Without a key Google replicates."
  }
  assert {
    condition     = output.secret_id == "landfast-config"
    error_message = "The output names another secret."
  }
}

run "a_key_of_yours_encrypts_it_where_it_lies" {
  command = plan

  variables {
    kms_key_name = "projects/acme-data/locations/europe-west1/keyRings/lake/cryptoKeys/landfast"
    location     = "europe-west1"
  }
  assert {
    condition     = google_secret_manager_secret.this.replication[0].user_managed[0].replicas[0].location == "europe-west1"
    error_message = "It lies elsewhere than its key."
  }
}

run "a_key_wants_a_location" {
  command         = plan
  expect_failures = [var.location]

  variables {
    kms_key_name = "projects/acme-data/locations/europe-west1/keyRings/lake/cryptoKeys/landfast"
  }
}

run "a_configuration_is_not_for_everyone" {
  command         = plan
  expect_failures = [var.accessors]

  variables {
    accessors = { all = "allAuthenticatedUsers" }
  }
}
