output "worker_pool_name" {
  description = "The worker pool's name."
  value       = google_cloud_run_v2_worker_pool.this.name
}

output "worker_pool_id" {
  description = "The worker pool's full name."
  value       = google_cloud_run_v2_worker_pool.this.id
}
