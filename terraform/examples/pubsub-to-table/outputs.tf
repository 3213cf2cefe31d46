output "try_it" {
  description = "Publishes an order, and asks BigQuery for it."
  value       = <<-EOT
    gcloud pubsub topics publish ${module.landfast.topics["orders"]} --project=${var.project_id} --message '{"id": 1, "at": "2026-11-22T12:00:00Z", "total": "9.50", "lines": [{"sku": "ice-axe", "n": 1}]}'
    sleep 20 # a new instance, and the commit
    bq query --project_id=${var.project_id} --location=${var.region} --use_legacy_sql=false 'SELECT * FROM `${module.landfast.bigquery_tables["shop.orders"]}`'
  EOT
}

output "config_files" {
  description = "landfast's configuration, by process."
  value       = module.landfast.config_files
}

output "check_command" {
  description = "Runs `landfast check` as the service's account: `terraform output -raw check_command >check.sh && sh check.sh`."
  value       = module.landfast.check_command
}

output "run_command" {
  description = "Runs another command of landfast: `terraform output -raw run_command >landfast.sh && sh landfast.sh show shop.orders`."
  value       = module.landfast.run_command
}

output "status_page_command" {
  description = "Brings the status page to http://127.0.0.1:8080/, once the service lets you in; null until then."
  value       = module.landfast.status_page_command
}

output "dead_letters" {
  description = "Where records lie that did not fit, with their reasons."
  value       = module.landfast.dead_letters
}

output "dashboard_url" {
  description = "The dashboard."
  value       = module.landfast.dashboard_url
}
