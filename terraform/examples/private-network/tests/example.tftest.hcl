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
  project_id   = "acme-data"
  image        = "europe-west1-docker.pkg.dev/acme-data/images/landfast:1.2.3"
  kms_key_name = "projects/acme-keys/locations/europe-west1/keyRings/lake/cryptoKeys/landfast"
}

run "private_network" {
  command = plan

  assert {
    condition     = alltrue([for name, text in output.config_files : text == file("rendered/${name}.yaml")])
    error_message = "What is rendered is not what lies in rendered/: tests/terraform/run renew DIR, and look at the difference."
  }
  assert {
    condition     = google_compute_network.this.delete_default_routes_on_create && google_compute_subnetwork.run.private_ip_google_access && google_compute_route.googleapis.dest_range == "199.36.153.8/30"
    error_message = "There is a way to the internet, or none to Google."
  }
  assert {
    condition     = toset(keys(google_project_service.network)) == toset(["compute.googleapis.com", "dns.googleapis.com"]) && time_sleep.network.create_duration == "60s"
    error_message = "The network is made before its APIs are on."
  }
}

run "in_a_perimeter" {
  command = plan
  variables {
    in_perimeter = true
  }
  assert {
    condition     = google_compute_route.googleapis.dest_range == "199.36.153.4/30" && toset(google_dns_record_set.vip.rrdatas) == toset(["199.36.153.4", "199.36.153.5", "199.36.153.6", "199.36.153.7"])
    error_message = "APIs are reached past the perimeter."
  }
}
