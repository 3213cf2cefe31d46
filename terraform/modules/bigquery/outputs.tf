output "dataset_id" {
  description = "The dataset, as `publish.bigquery.dataset` says it."
  value       = google_bigquery_dataset.this.dataset_id
  depends_on  = [google_bigquery_dataset_iam_member.publishers]
}

output "connection" {
  description = "The connection, LOCATION.NAME, as `publish.bigquery.connection` says it."
  value       = "${lower(google_bigquery_connection.this.location)}.${google_bigquery_connection.this.connection_id}"
  depends_on  = [google_bigquery_connection_iam_member.publishers, google_storage_bucket_iam_member.connection]
}

output "connection_service_account_email" {
  description = "The connection's account, to give it other buckets."
  value       = google_bigquery_connection.this.cloud_resource[0].service_account_id
}
