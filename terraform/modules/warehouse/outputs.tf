output "bucket" {
  description = "The warehouse bucket's name."
  value       = google_storage_bucket.warehouse.name
}

output "dead_letters_bucket" {
  description = "The name of the dead letters' bucket."
  value       = google_storage_bucket.dead_letters.name
}

output "location" {
  description = "Where the buckets are."
  value       = google_storage_bucket.warehouse.location
}

output "warehouse" {
  description = "The configuration's `warehouse`."
  value       = "gs://${google_storage_bucket.warehouse.name}/${var.warehouse_prefix}"
  # Whoever writes there waits until it may.
  depends_on = [google_storage_bucket_iam_member.warehouse_users]
}

output "dead_letters" {
  description = "The configuration's `dead_letters`."
  value       = "gs://${google_storage_bucket.dead_letters.name}/${var.dead_letters_prefix}"
  depends_on  = [google_storage_bucket_iam_member.dead_letters_users]
}
