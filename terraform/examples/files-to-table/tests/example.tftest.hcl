mock_provider "google" {
  source = "../../tests/mocks"
}
mock_provider "time" {}

override_resource {
  target          = module.landfast.google_service_account.this["service"]
  override_during = plan
  values          = { email = "landfast-service@acme-data.iam.gserviceaccount.com", name = "projects/acme-data/serviceAccounts/landfast-service@acme-data.iam.gserviceaccount.com" }
}
override_resource {
  target          = module.landfast.google_service_account.this["push"]
  override_during = plan
  values          = { email = "landfast-push@acme-data.iam.gserviceaccount.com", name = "projects/acme-data/serviceAccounts/landfast-push@acme-data.iam.gserviceaccount.com" }
}
override_resource {
  target          = module.landfast.google_service_account.this["scheduler"]
  override_during = plan
  values          = { email = "landfast-scheduler@acme-data.iam.gserviceaccount.com", name = "projects/acme-data/serviceAccounts/landfast-scheduler@acme-data.iam.gserviceaccount.com" }
}
override_resource {
  target          = module.landfast.google_service_account.this["maintain"]
  override_during = plan
  values          = { email = "landfast-maintain@acme-data.iam.gserviceaccount.com", name = "projects/acme-data/serviceAccounts/landfast-maintain@acme-data.iam.gserviceaccount.com" }
}

variables {
  project_id = "acme-data"
  image      = "europe-west1-docker.pkg.dev/acme-data/images/landfast:1.2.3"
}

run "files_to_table" {
  command = plan

  assert {
    condition     = alltrue([for name, text in output.config_files : text == file("rendered/${name}.yaml")])
    error_message = "What is rendered is not what lies in rendered/: tests/terraform/run renew DIR, and look at the difference."
  }
  assert {
    condition     = toset(keys(output.config_files)) == toset(["objects", "maintenance"])
    error_message = "There are other processes than the service for objects and the job."
  }
  assert {
    condition     = strcontains(output.try_it, "gs://acme-data-landing/orders/")
    error_message = "The file goes elsewhere."
  }
  assert {
    condition     = strcontains(output.try_it, "gcloud storage cp --project=acme-data - gs://acme-data-landing/orders/") && strcontains(output.try_it, "bq query --project_id=acme-data --location=europe-west1") && strcontains(output.check_command, "job=landfast-check project=acme-data region=europe-west1\n")
    error_message = "A command leaves project or region to chance."
  }
}
