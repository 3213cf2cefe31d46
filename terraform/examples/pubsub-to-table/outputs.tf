output "try_it" {
  description = "Publishes an order, and asks BigQuery for it."
  value       = <<-EOT
    gcloud pubsub topics publish ${module.landfast.topics["orders"]} --message '{"id": 1, "at": "2026-11-22T12:00:00Z", "total": "9.50", "lines": [{"sku": "ice-axe", "n": 1}]}'
    bq query --use_legacy_sql=false 'SELECT * FROM `${module.landfast.bigquery_tables["shop.orders"]}`'
  EOT
}

output "config_files" {
  description = "landfast's configuration, by process."
  value       = module.landfast.config_files
}

output "dashboard_id" {
  description = "The dashboard."
  value       = module.landfast.dashboard_id
}
