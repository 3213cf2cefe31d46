# Cloud Scheduler starts the job (run.jobs.run).
resource "google_cloud_run_v2_job_iam_member" "scheduler" {
  for_each = local.scheduled

  project  = var.project_id
  location = google_cloud_run_v2_job.this[each.key].location
  name     = google_cloud_run_v2_job.this[each.key].name
  role     = "roles/run.invoker"
  member   = "serviceAccount:${var.scheduler_service_account_email}"
}
