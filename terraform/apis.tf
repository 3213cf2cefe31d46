# The APIs that are called, and time for the news to go round: a call too soon after the first enablement is refused.
locals {
  apis = toset(concat(
    ["iam.googleapis.com", "logging.googleapis.com", "monitoring.googleapis.com", "pubsub.googleapis.com", "run.googleapis.com", "secretmanager.googleapis.com", "storage.googleapis.com"],
    local.maintains ? ["cloudscheduler.googleapis.com"] : [],
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

# A grant takes a while to go round, and whatever asks its catalog as it starts does not start before: Cloud Run would give the first revision up.
# What is named here waits itself for its grants (outputs with depends_on). It counts when something new is granted, too, such as another catalog.
resource "time_sleep" "grants" {
  create_duration = var.grant_propagation_duration
  triggers = {
    warehouse    = module.warehouse.warehouse
    dead_letters = module.warehouse.dead_letters
    catalog      = join(",", module.catalog[*].warehouse)
    dataset      = join(",", module.bigquery[*].dataset_id)
    connection   = join(",", module.bigquery[*].connection)
    configs      = join(",", sort([for config in module.config : config.secret_id]))
    secrets      = join(",", sort([for grant in google_secret_manager_secret_iam_member.environment : grant.secret_id]))
    letters      = join(",", distinct([for grant in google_pubsub_topic_iam_member.letters : grant.topic]))
  }

  depends_on = [
    google_sql_user.service, google_sql_database.catalog, google_project_iam_member.sql_client, google_project_iam_member.sql_user,
    google_secret_manager_secret_iam_member.maintain_environment, google_project_iam_member.metric_writer, module.collector_config,
  ]
}

data "google_project" "this" {
  project_id = var.project_id
}
