mock_provider "google" {
  override_during = plan
  mock_resource "google_cloud_run_v2_service" {
    defaults = { uri = "https://landfast-xyz.a.run.app" }
  }
}

variables {
  project_id            = "acme-data"
  name                  = "landfast"
  location              = "europe-west1"
  image                 = "europe-west1-docker.pkg.dev/acme-data/images/landfast:1.2.3"
  service_account_email = "landfast@acme-data.iam.gserviceaccount.com"
  config_secret         = "landfast-config"
  config_version        = "3"
  invokers              = { push = "serviceAccount:push@acme-data.iam.gserviceaccount.com" }
}

run "it_serves_with_the_configuration" {
  command = plan

  assert {
    condition     = google_cloud_run_v2_service.this.template[0].containers[0].args == tolist(["serve", "--config", "/etc/landfast/landfast.yaml", "--log", "stackdriver"])
    error_message = "It is started otherwise."
  }
  assert {
    condition     = one(google_cloud_run_v2_service.this.template[0].volumes).secret[0].secret == "landfast-config" && one(one(google_cloud_run_v2_service.this.template[0].volumes).secret[0].items).version == "3" && one(one(google_cloud_run_v2_service.this.template[0].volumes).secret[0].items).path == "landfast.yaml"
    error_message = "Another version or file is mounted."
  }
  assert {
    condition     = google_cloud_run_v2_service.this.template[0].service_account == "landfast@acme-data.iam.gserviceaccount.com"
    error_message = "It runs as somebody else."
  }
  assert {
    condition     = google_cloud_run_v2_service.this.ingress == "INGRESS_TRAFFIC_INTERNAL_ONLY" && google_cloud_run_v2_service.this.invoker_iam_disabled == false
    error_message = "The internet reaches it, or IAM is not asked."
  }
  assert {
    condition     = google_cloud_run_v2_service.this.deletion_protection == false && google_cloud_run_v2_service.this.template[0].containers[0].resources[0].cpu_idle == false
    error_message = "A default of the provider came through."
  }
  assert {
    condition     = google_cloud_run_v2_service.this.template[0].max_instance_request_concurrency == 1000 && google_cloud_run_v2_service.this.template[0].scaling[0].max_instance_count == 1 && google_cloud_run_v2_service.this.template[0].scaling[0].min_instance_count == 0 && google_cloud_run_v2_service.this.template[0].timeout == "70s"
    error_message = "The sizing is not that of a service for pushes."
  }
  assert {
    condition     = google_cloud_run_v2_service.this.template[0].containers[0].startup_probe[0].http_get[0].path == "/health/ready" && google_cloud_run_v2_service.this.template[0].containers[0].liveness_probe[0].http_get[0].path == "/health/live"
    error_message = "The probes ask elsewhere."
  }
  assert {
    condition     = google_cloud_run_v2_service_iam_member.invokers["push"].role == "roles/run.invoker" && google_cloud_run_v2_service_iam_member.invokers["push"].member == "serviceAccount:push@acme-data.iam.gserviceaccount.com" && length(google_cloud_run_v2_service_iam_member.invokers) == 1
    error_message = "Somebody else is let in."
  }
  assert {
    condition     = strcontains(google_logging_project_exclusion.requests[0].filter, "httpRequest.status<400") && strcontains(google_logging_project_exclusion.requests[0].filter, "service_name=\"landfast\"")
    error_message = "Successful requests are logged, or those of others are not."
  }
  assert {
    condition     = output.service_uri == "https://landfast-xyz.a.run.app" && output.service_name == "landfast"
    error_message = "The outputs name something else."
  }
}

run "companions_and_network" {
  command = plan

  variables {
    cloud_sql_proxy    = { instance_connection_name = "acme-data:europe-west1:lake", private_ip = true }
    vpc_access         = { network = "lake", subnetwork = "lake-run", egress = "ALL_TRAFFIC" }
    secret_environment = { API_TOKEN = { secret = "landfast-token" } }
    metrics_collector  = { config_secret = "landfast-collector", config_version = "1", token_secret = "landfast-token" }
  }
  assert {
    condition     = google_cloud_run_v2_service.this.template[0].containers[*].name == tolist(["landfast", "cloud-sql-proxy", "metrics"]) && google_cloud_run_v2_service.this.template[0].volumes[*].name == tolist(["config", "cloudsql", "metrics-config", "metrics-token"])
    error_message = "A companion or a volume is missing."
  }
  assert {
    condition     = google_cloud_run_v2_service.this.template[0].containers[0].depends_on == tolist(["cloud-sql-proxy"]) && google_cloud_run_v2_service.this.template[0].containers[2].depends_on == tolist(["landfast"])
    error_message = "The containers start in another order."
  }
  assert {
    condition     = contains(google_cloud_run_v2_service.this.template[0].containers[1].args, "--auto-iam-authn") && contains(google_cloud_run_v2_service.this.template[0].containers[1].args, "--private-ip") && contains(google_cloud_run_v2_service.this.template[0].containers[1].args, "acme-data:europe-west1:lake")
    error_message = "The proxy does not log in by IAM, or to another instance."
  }
  assert {
    condition     = google_cloud_run_v2_service.this.template[0].vpc_access[0].egress == "ALL_TRAFFIC" && google_cloud_run_v2_service.this.template[0].vpc_access[0].network_interfaces[0].subnetwork == "lake-run"
    error_message = "It leaves by another way."
  }
  assert {
    condition     = one([for env in google_cloud_run_v2_service.this.template[0].containers[0].env : env.value_source[0].secret_key_ref[0].secret if env.name == "API_TOKEN"]) == "landfast-token"
    error_message = "The token does not come from its secret."
  }
}

run "a_collector_wants_cpu" {
  command         = plan
  expect_failures = [var.cpu_idle]

  variables {
    cpu_idle          = true
    metrics_collector = { config_secret = "c", config_version = "1", token_secret = "t" }
  }
}

run "the_default_account_is_refused" {
  command         = plan
  expect_failures = [var.service_account_email]

  variables {
    service_account_email = "1234567890-compute@developer.gserviceaccount.com"
  }
}

run "everyone_is_not_let_in" {
  command         = plan
  expect_failures = [var.invokers]

  variables {
    invokers = { all = "allUsers" }
  }
}

run "an_image_that_changes_is_refused" {
  command         = plan
  expect_failures = [var.image]

  variables {
    image = "gcr.io/acme/landfast:latest"
  }
}

run "memory_that_cloud_run_does_not_give" {
  command         = plan
  expect_failures = [var.memory]

  variables {
    cpu    = "4"
    memory = "1Gi"
  }
}
