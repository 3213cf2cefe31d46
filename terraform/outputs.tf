output "service_name" {
  description = "The service that takes messages; null without a topic that is pushed."
  value       = one(module.service[*].service_name)
}

output "service_uri" {
  description = "Its address: POST / takes pushes, POST /v1/tables/TABLE/records rows (with a token of api_token_secret)."
  value       = one(module.service[*].service_uri)
}

output "objects_service_name" {
  description = "The service that takes objects; null without a landing bucket."
  value       = one(module.objects[*].service_name)
}

output "worker_pool_name" {
  description = "The worker that pulls; null without a topic that is pulled."
  value       = one(module.worker[*].worker_pool_name)
}

output "job_names" {
  description = "The jobs by command (maintain, verify, check, run): `gcloud run jobs execute NAME --project=PROJECT --region=REGION` runs one now."
  value       = merge(concat(module.maintenance[*].job_names, module.check[*].job_names)...)
}

output "check_command" {
  description = "A script that runs `landfast check` as the service's account, prints what it says and fails if it fails: `terraform output -raw check_command >check.sh && sh check.sh`, once your own module puts it out."
  value       = one([for job in module.check[*].job_names["check"] : templatefile("${path.module}/job.sh.tftpl", { job = job, project = var.project_id, region = var.region, takes_words = false })])
}

output "run_command" {
  description = "A script that runs another command of landfast as the account for maintenance: `terraform output -raw run_command >landfast.sh && sh landfast.sh show shop.orders`; likewise replay, ledger, verify. Null where neither maintain nor verify is scheduled."
  value       = one([for maintenance in module.maintenance : templatefile("${path.module}/job.sh.tftpl", { job = maintenance.job_names["run"], project = var.project_id, region = var.region, takes_words = true })])
}

output "status_page_command" {
  description = "Brings the status page to http://127.0.0.1:8080/, for those of service_invokers who may see the service, too (roles/run.viewer). Null where the page is off, or protected without api_token_secret, or service_ingress is not INGRESS_TRAFFIC_ALL."
  value       = var.status_page == "off" || (var.status_page == "protected" && var.api_token_secret == null) || var.service_ingress != "INGRESS_TRAFFIC_ALL" ? null : one([for name in module.service[*].service_name : "gcloud run services proxy ${name} --project=${var.project_id} --region=${var.region} --port=8080"])
}

output "topics" {
  description = "The topics' full names, by the keys of `topics`: where to publish."
  value       = { for name, topic in module.topic : name => topic.id }
}

output "subscription_names" {
  description = "All subscriptions that landfast takes messages from, short; those of Eventarc are eventarc_subscriptions."
  value       = sort(flatten([[for topic in module.topic : topic.subscription_names], [for topic in module.landing_topic : topic.subscription_names]]))
}

output "landing_urls" {
  description = "Where to put files, by the keys of `landings`."
  value       = { for name, landing in module.landing : name => landing.url }
}

output "eventarc_subscriptions" {
  description = "Subscriptions of Eventarc, in full, whose acknowledgement deadline is to be raised by hand: `gcloud pubsub subscriptions update NAME --ack-deadline=600`."
  value       = { for name, landing in module.landing : name => landing.eventarc_subscription if landing.eventarc_subscription != null }
}

output "warehouse_bucket" {
  description = "The warehouse bucket's name."
  value       = module.warehouse.bucket
}

output "dead_letters" {
  description = "Where dead letters lie, or the topic that they are published to."
  value       = coalesce(var.dead_letters_topic, module.warehouse.dead_letters)
}

output "catalog" {
  description = "The catalog as other engines name it: a warehouse of BigLake, or the catalog's name in the database; null with storage."
  value       = try(module.catalog[0].warehouse, var.catalog_type == "sql" ? var.catalog_name : null)
}

output "bigquery_tables" {
  description = "What to query in BigQuery, by table: PROJECT.CATALOG.NAMESPACE.TABLE with biglake, else the external table where there is one."
  value = {
    for name in keys(var.tables) : name => (
      var.catalog_type == "biglake" ? "${var.project_id}.${var.catalog_name}.${name}" :
      local.publishes ? "${var.project_id}.${try(var.tables[name].publish.bigquery.dataset, var.bigquery.dataset_id)}.${try(var.tables[name].publish.bigquery.table, reverse(split(".", name))[0])}" :
      null
    )
  }
}

output "connection_service_account_email" {
  description = "The account of the BigQuery connection; null without external tables."
  value       = one(module.bigquery[*].connection_service_account_email)
}

output "service_account_emails" {
  description = "The accounts: service, push, scheduler, and maintain where that is not the service's."
  value       = { for name, account in google_service_account.this : name => account.email }
}

output "config_files" {
  description = "landfast's configuration as each process has it: service, objects, worker, maintenance. Once your own module puts it out: `terraform output -json config_files | jq -r .service > landfast.yaml; landfast config validate --config landfast.yaml`."
  value       = local.config_files
}

output "alert_policies" {
  description = "The alert policies' ids."
  value       = try(module.monitoring[0].alert_policies, {})
}

output "dashboard_id" {
  description = "The dashboard's id; dashboard_url opens it."
  value       = one(module.monitoring[*].dashboard_id)
}

output "dashboard_url" {
  description = "The dashboard in Google Cloud's console."
  value       = one([for id in module.monitoring[*].dashboard_id : "https://console.cloud.google.com/monitoring/dashboards/builder/${reverse(split("/", id))[0]}?project=${var.project_id}"])
}
