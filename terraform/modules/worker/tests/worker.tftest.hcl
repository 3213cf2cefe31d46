mock_provider "google" {}

variables {
  project_id            = "acme-data"
  name                  = "landfast-worker"
  location              = "europe-west1"
  image                 = "europe-west1-docker.pkg.dev/acme-data/images/landfast:1.2.3"
  service_account_email = "landfast@acme-data.iam.gserviceaccount.com"
  config_secret         = "landfast-worker-config"
  config_version        = "1"
  subscriptions         = ["projects/acme-data/subscriptions/orders-pull"]
}

run "it_pulls_what_it_is_told" {
  command = plan

  assert {
    condition     = google_cloud_run_v2_worker_pool.this.template[0].containers[0].args == tolist(["pull", "--config", "/etc/landfast/landfast.yaml", "--log", "stackdriver", "--project", "acme-data", "--subscription", "projects/acme-data/subscriptions/orders-pull"])
    error_message = "It is started otherwise."
  }
  assert {
    condition     = google_cloud_run_v2_worker_pool.this.scaling[0].manual_instance_count == 1 && google_cloud_run_v2_worker_pool.this.template[0].containers[0].resources[0].limits == tomap({ cpu = "2", memory = "2Gi" })
    error_message = "The sizing is not that of a worker."
  }
  assert {
    condition     = google_cloud_run_v2_worker_pool.this.template[0].service_account == "landfast@acme-data.iam.gserviceaccount.com" && google_cloud_run_v2_worker_pool.this.deletion_protection == false
    error_message = "It runs as somebody else, or cannot be replaced."
  }
  assert {
    condition     = one(google_cloud_run_v2_worker_pool.this.template[0].volumes).secret[0].secret == "landfast-worker-config"
    error_message = "Another configuration is mounted."
  }
  assert {
    condition     = output.worker_pool_name == "landfast-worker"
    error_message = "The output names something else."
  }
}

run "a_short_subscription_is_refused" {
  command         = plan
  expect_failures = [var.subscriptions]

  variables {
    subscriptions = ["orders-pull"]
  }
}

run "memory_that_cloud_run_does_not_give" {
  command         = plan
  expect_failures = [var.memory]

  variables {
    cpu    = "1"
    memory = "5Gi"
  }
}
