output "name" {
  description = "The catalog's name."
  value       = google_biglake_iceberg_catalog.this.name
}

output "warehouse" {
  description = "The configuration's `catalog.warehouse`."
  value       = "bl://projects/${var.project_id}/catalogs/${google_biglake_iceberg_catalog.this.name}"
  # The service asks the catalog as it starts, and does not start without an answer.
  depends_on = [
    google_biglake_iceberg_catalog_iam_member.editors,
    google_project_iam_member.consumers,
    google_storage_bucket_iam_member.vending,
  ]
}

output "service_account_email" {
  description = "The account whose credentials the catalog vends, to give it other buckets; empty where it never vended."
  value       = google_biglake_iceberg_catalog.this.biglake_service_account
}
