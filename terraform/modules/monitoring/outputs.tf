output "alert_policies" {
  description = "The alert policies' ids by their keys."
  value = merge(
    { for name, policy in google_monitoring_alert_policy.queries : name => policy.id },
    { for name, policy in google_monitoring_alert_policy.oldest_unacked : name => policy.id },
    { for policy in google_monitoring_alert_policy.memory : "memory" => policy.id },
    { for policy in google_monitoring_alert_policy.jobs : "jobs" => policy.id },
  )
}

output "dashboard_id" {
  description = "The dashboard's id."
  value       = google_monitoring_dashboard.this.id
}
