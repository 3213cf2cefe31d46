output "try_it" {
  description = "Drops a file, and asks BigQuery for its rows."
  value       = <<-EOT
    echo '{"id": 1, "at": "2026-11-22T12:00:00Z", "total": "9.50"}' | gcloud storage cp - ${module.landfast.landing_urls["landing"]}/orders/first.ndjson
    bq query --use_legacy_sql=false 'SELECT * FROM `${module.landfast.bigquery_tables["shop.orders"]}`'
  EOT
}

output "config_files" {
  description = "landfast's configuration, by process."
  value       = module.landfast.config_files
}
