output "service_name" {
  description = "The service's name."
  value       = google_cloud_run_v2_service.this.name
}

output "service_id" {
  description = "The service's full name."
  value       = google_cloud_run_v2_service.this.id
}

output "service_uri" {
  description = "The service's address, where subscriptions push to."
  value       = google_cloud_run_v2_service.this.uri
  # A push before the grant is answered 403, and comes again after the backoff.
  depends_on = [google_cloud_run_v2_service_iam_member.invokers]
}
