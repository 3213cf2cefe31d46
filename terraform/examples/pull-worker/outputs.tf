output "worker_pool_name" {
  description = "The worker: `gcloud run worker-pools update NAME --instances 2` for two."
  value       = module.landfast.worker_pool_name
}

output "topics" {
  description = "Where to publish."
  value       = module.landfast.topics
}

output "config_files" {
  description = "landfast's configuration, by process."
  value       = module.landfast.config_files
}
