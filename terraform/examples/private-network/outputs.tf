output "subnetwork" {
  description = "The subnet that landfast leaves through."
  value       = google_compute_subnetwork.run.id
}

output "config_files" {
  description = "landfast's configuration, by process."
  value       = module.landfast.config_files
}
