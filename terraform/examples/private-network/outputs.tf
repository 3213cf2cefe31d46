output "subnetwork" {
  description = "The subnet that landfast leaves through."
  value       = google_compute_subnetwork.run.id
}

output "config_files" {
  description = "landfast's configuration, by process."
  value       = module.landfast.config_files
}

output "check_command" {
  description = "Runs `landfast check` as the service's account: `terraform output -raw check_command | sh`."
  value       = module.landfast.check_command
}

output "dashboard_url" {
  description = "The dashboard."
  value       = module.landfast.dashboard_url
}
