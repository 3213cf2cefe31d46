# One account for each who acts. Google's agents are called by the project's number.
locals {
  accounts = { for name, does in {
    service   = "landfast: serves and pulls"
    push      = "landfast: Pub/Sub and Eventarc call the service as this"
    scheduler = "landfast: Cloud Scheduler starts the jobs as this"
    maintain  = "landfast: maintains and verifies"
  } : name => does if name != "maintain" || (local.maintains && var.catalog_type != "sql") }
  service_member = "serviceAccount:${google_service_account.this["service"].email}"
  project_number = data.google_project.this.number
  agents = {
    pubsub        = "serviceAccount:service-${local.project_number}@gcp-sa-pubsub.iam.gserviceaccount.com"
    storage       = "serviceAccount:service-${local.project_number}@gs-project-accounts.iam.gserviceaccount.com"
    run           = "serviceAccount:service-${local.project_number}@serverless-robot-prod.iam.gserviceaccount.com"
    secretmanager = "serviceAccount:service-${local.project_number}@gcp-sa-secretmanager.iam.gserviceaccount.com"
    bigquery      = "serviceAccount:bq-${local.project_number}@bigquery-encryption.iam.gserviceaccount.com"
  }
}

resource "google_service_account" "this" {
  for_each = local.accounts

  project      = local.project_id
  account_id   = "${var.name}-${each.key}"
  display_name = each.value
}

# Pub/Sub's agent signs each push as the push account (iam.serviceAccounts.getOpenIdToken, and nothing else), this account alone.
resource "google_service_account_iam_member" "pubsub_token_creator" {
  service_account_id = google_service_account.this["push"].name
  role               = "roles/iam.serviceAccountOpenIdTokenCreator"
  member             = local.agents.pubsub
}

# The secrets that become environment variables are read as an instance starts (secretmanager.versions.access): by the service …
resource "google_secret_manager_secret_iam_member" "environment" {
  for_each = toset(concat(values(var.secret_environment), var.api_token_secret == null ? [] : [var.api_token_secret]))

  project   = local.project_id
  secret_id = each.value
  role      = "roles/secretmanager.secretAccessor"
  member    = local.service_member
}

# … and by the jobs of maintenance, but for the token.
resource "google_secret_manager_secret_iam_member" "maintain_environment" {
  for_each = contains(keys(local.accounts), "maintain") ? toset(values(var.secret_environment)) : toset([])

  project   = local.project_id
  secret_id = each.value
  role      = "roles/secretmanager.secretAccessor"
  member    = local.landfast_members["maintain"]
}

# Letters are published to a topic of yours, if you named one; `maintain` publishes what was left waiting (pubsub.topics.publish).
resource "google_pubsub_topic_iam_member" "letters" {
  for_each = var.dead_letters_topic == null ? {} : local.landfast_members

  project = split("/", var.dead_letters_topic)[1]
  topic   = var.dead_letters_topic
  role    = "roles/pubsub.publisher"
  member  = each.value
}

# The metrics collector writes time series (monitoring.timeSeries.create); Google has this role on projects only.
resource "google_project_iam_member" "metric_writer" {
  count = local.collects_metrics ? 1 : 0

  project = local.project_id
  role    = "roles/monitoring.metricWriter"
  member  = local.service_member
}

# With a key of yours: who keeps something encrypts and decrypts it with that key (cloudkms.cryptoKeyVersions.useToEncrypt, useToDecrypt).
resource "google_kms_crypto_key_iam_member" "agents" {
  for_each = var.kms_key_name == null ? {} : { for name, member in local.agents : name => member if name != "bigquery" || local.publishes }

  crypto_key_id = var.kms_key_name
  role          = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
  member        = each.value
}

# With a catalog in Cloud SQL: the proxy connects (cloudsql.instances.connect, get), to this instance alone …
resource "google_project_iam_member" "sql_client" {
  count = var.catalog_type == "sql" ? 1 : 0

  project = local.project_id
  role    = "roles/cloudsql.client"
  member  = local.service_member

  condition {
    title      = "the catalog's instance"
    expression = "resource.type == \"sqladmin.googleapis.com/Instance\" && resource.name == \"projects/${var.project_id}/instances/${var.cloud_sql.instance_name}\""
  }
}

# … and logs in (cloudsql.instances.login). Google has both roles on projects only.
resource "google_project_iam_member" "sql_user" {
  count = var.catalog_type == "sql" ? 1 : 0

  project = local.project_id
  role    = "roles/cloudsql.instanceUser"
  member  = local.service_member

  condition {
    title      = "the catalog's instance"
    expression = "resource.type == \"sqladmin.googleapis.com/Instance\" && resource.name == \"projects/${var.project_id}/instances/${var.cloud_sql.instance_name}\""
  }
}
