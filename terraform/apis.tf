# The APIs that are called, and time for the news to go round: a call too soon after the first enablement is refused.
locals {
  apis = toset(concat(
    ["iam.googleapis.com", "logging.googleapis.com", "monitoring.googleapis.com", "pubsub.googleapis.com", "run.googleapis.com", "secretmanager.googleapis.com", "storage.googleapis.com"],
    var.maintenance_schedule == null ? [] : ["cloudscheduler.googleapis.com"],
    var.catalog_type == "biglake" ? ["biglake.googleapis.com"] : [],
    var.catalog_type == "sql" ? ["sqladmin.googleapis.com"] : [],
    local.publishes ? ["bigquery.googleapis.com", "bigqueryconnection.googleapis.com"] : [],
    anytrue([for landing in values(var.landings) : landing.transport == "eventarc"]) ? ["eventarc.googleapis.com"] : [],
    var.kms_key_name == null ? [] : ["cloudkms.googleapis.com"],
  ))
  # Whatever names the project by this waits for the APIs, and knows the name while planning all the same.
  project_id = try(time_sleep.apis[0].triggers["project_id"], var.project_id)
}

resource "google_project_service" "apis" {
  for_each = var.activate_apis ? local.apis : toset([])

  project = var.project_id
  service = each.value
  # Others in the project may use it.
  disable_on_destroy = false
}

resource "time_sleep" "apis" {
  count = var.activate_apis ? 1 : 0

  create_duration = var.api_propagation_duration
  triggers = {
    project_id = var.project_id
    apis       = join(",", sort([for api in google_project_service.apis : api.service]))
  }
}

data "google_project" "this" {
  project_id = var.project_id
}
