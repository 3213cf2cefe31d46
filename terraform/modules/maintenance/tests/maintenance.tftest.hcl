mock_provider "google" {}

variables {
  project_id                      = "acme-data"
  name                            = "landfast"
  location                        = "europe-west1"
  image                           = "europe-west1-docker.pkg.dev/acme-data/images/landfast:1.2.3"
  service_account_email           = "landfast@acme-data.iam.gserviceaccount.com"
  config_secret                   = "landfast-config"
  config_version                  = "1"
  scheduler_service_account_email = "scheduler@acme-data.iam.gserviceaccount.com"
}

run "maintain_runs_daily" {
  command = plan

  assert {
    condition     = google_cloud_run_v2_job.this["maintain"].template[0].template[0].containers[0].args == tolist(["maintain", "--config", "/etc/landfast/landfast.yaml", "--log", "stackdriver", "--output", "json"])
    error_message = "It is started otherwise."
  }
  assert {
    condition     = google_cloud_run_v2_job.this["maintain"].template[0].template[0].max_retries == 0 && google_cloud_run_v2_job.this["maintain"].deletion_protection == false
    error_message = "A failed run is repeated at once, or the job cannot be replaced."
  }
  assert {
    condition     = google_cloud_scheduler_job.this["maintain"].schedule == "17 3 * * *" && google_cloud_scheduler_job.this["maintain"].http_target[0].uri == "https://run.googleapis.com/v2/projects/acme-data/locations/europe-west1/jobs/landfast-maintain:run" && google_cloud_scheduler_job.this["maintain"].http_target[0].oauth_token[0].service_account_email == "scheduler@acme-data.iam.gserviceaccount.com"
    error_message = "The schedule starts something else, or as somebody else."
  }
  assert {
    condition     = google_cloud_run_v2_job_iam_member.scheduler["maintain"].role == "roles/run.invoker" && google_cloud_run_v2_job_iam_member.scheduler["maintain"].member == "serviceAccount:scheduler@acme-data.iam.gserviceaccount.com"
    error_message = "The scheduler may not start the job."
  }
  assert {
    condition     = output.job_names == { maintain = "landfast-maintain" }
    error_message = "There are other jobs."
  }
}

run "verify_runs_when_it_is_said" {
  command = plan

  variables {
    verify_schedule = "17 5 * * 0"
  }
  assert {
    condition     = google_cloud_run_v2_job.this["verify"].template[0].template[0].containers[0].args[0] == "verify" && google_cloud_scheduler_job.this["verify"].schedule == "17 5 * * 0"
    error_message = "verify does not run."
  }
}

run "check_runs_by_hand" {
  command = plan

  variables {
    schedule                        = null
    scheduler_service_account_email = null
    check                           = true
    cpu                             = "1"
    memory                          = "1Gi"
  }
  assert {
    condition     = google_cloud_run_v2_job.this["check"].template[0].template[0].containers[0].args == tolist(["check", "--config", "/etc/landfast/landfast.yaml", "--log", "stackdriver", "--project", "acme-data"])
    error_message = "It is started otherwise."
  }
  assert {
    condition     = length(google_cloud_scheduler_job.this) + length(google_cloud_run_v2_job_iam_member.scheduler) == 0 && output.job_names == { check = "landfast-check" }
    error_message = "Something starts it by itself, or there is another job."
  }
}

run "other_commands_run_by_hand" {
  command = plan

  variables {
    run = true
  }
  assert {
    condition     = google_cloud_run_v2_job.this["run"].template[0].template[0].containers[0].args == tolist(["version"]) && google_cloud_run_v2_job.this["run"].template[0].template[0].timeout == "86400s" && google_cloud_run_v2_job.this["maintain"].template[0].template[0].timeout == "3600s"
    error_message = "It does something by itself, or is cut off."
  }
  assert {
    condition     = keys(google_cloud_scheduler_job.this) == ["maintain"] && output.job_names == { maintain = "landfast-maintain", run = "landfast-run" }
    error_message = "Something starts it by itself, or there is another job."
  }
}

run "a_schedule_wants_an_account" {
  command         = plan
  expect_failures = [var.scheduler_service_account_email]

  variables {
    scheduler_service_account_email = null
  }
}

run "memory_that_cloud_run_does_not_give" {
  command         = plan
  expect_failures = [var.memory]

  variables {
    cpu    = "1"
    memory = "8Gi"
  }
}

run "a_schedule_has_five_fields" {
  command         = plan
  expect_failures = [var.schedule]

  variables {
    schedule = "daily"
  }
}
