output "job_names" {
  description = "The jobs' names, by command: `gcloud run jobs execute NAME --project=PROJECT --region=LOCATION` runs one now."
  value       = { for command, job in google_cloud_run_v2_job.this : command => job.name }
}
