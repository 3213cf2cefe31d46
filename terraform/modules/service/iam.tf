# Who calls the service: the account that Pub/Sub signs pushes for, and Eventarc's (run.routes.invoke). Nobody else is let in.
resource "google_cloud_run_v2_service_iam_member" "invokers" {
  for_each = var.invokers

  project  = var.project_id
  location = google_cloud_run_v2_service.this.location
  name     = google_cloud_run_v2_service.this.name
  role     = "roles/run.invoker"
  member   = each.value
}
