locals {
  # A trigger's name has 63 lower-case letters, digits and hyphens at most, and begins with a letter; a bucket's may have others, or as many.
  plain         = replace(var.name, "/[^a-z0-9-]/", "-")
  short         = length(var.name) <= 56 && local.plain == var.name && can(regex("^[a-z]", var.name))
  trigger_name  = local.short ? "${var.name}-landed" : "landing-${substr(local.plain, 0, 46)}-${substr(sha256(var.name), 0, 8)}"
  storage_agent = "serviceAccount:service-${var.project_number}@gs-project-accounts.iam.gserviceaccount.com"
}

resource "google_storage_bucket" "this" {
  #checkov:skip=CKV_GCP_62:Data access is told by Cloud Audit Logs, which usage logs in a bucket are the older form of.
  #checkov:skip=CKV_GCP_78:Versions would keep what is deleted on purpose; soft delete brings back what was not.
  project                     = var.project_id
  name                        = var.name
  location                    = var.location
  labels                      = var.labels
  force_destroy               = var.force_destroy
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  # Each generation of an object is an event of its own; versions would only be paid for.
  versioning {
    enabled = false
  }

  soft_delete_policy {
    retention_duration_seconds = var.soft_delete_retention_seconds
  }

  lifecycle_rule {
    condition {
      age = 2
    }
    action {
      type = "AbortIncompleteMultipartUpload"
    }
  }

  # What was landed, or could not be: leave it for as long as it takes you to read the dead letters.
  dynamic "lifecycle_rule" {
    for_each = var.delete_after_days == null ? [] : [var.delete_after_days]
    content {
      condition {
        age = lifecycle_rule.value
      }
      action {
        type = "Delete"
      }
    }
  }

  dynamic "encryption" {
    for_each = var.kms_key_name == null ? [] : [var.kms_key_name]
    content {
      default_kms_key_name = encryption.value
    }
  }
}

resource "google_storage_notification" "this" {
  count = var.transport == "notification" ? 1 : 0

  bucket             = google_storage_bucket.this.name
  topic              = var.topic
  payload_format     = "JSON_API_V1"
  event_types        = ["OBJECT_FINALIZE"]
  object_name_prefix = var.object_name_prefix

  # Cloud Storage tries to publish when the notification is made, and refuses it if it may not.
  depends_on = [google_pubsub_topic_iam_member.storage_agent]
}

resource "google_eventarc_trigger" "this" {
  count = var.transport == "eventarc" ? 1 : 0

  project         = var.project_id
  name            = local.trigger_name
  location        = lower(var.location)
  labels          = var.labels
  service_account = var.eventarc.service_account_email

  matching_criteria {
    attribute = "type"
    value     = "google.cloud.storage.object.v1.finalized"
  }
  matching_criteria {
    attribute = "bucket"
    value     = google_storage_bucket.this.name
  }

  destination {
    cloud_run_service {
      service = var.eventarc.service_name
      region  = var.eventarc.service_region
      path    = "/"
    }
  }

  depends_on = [google_project_iam_member.storage_agent, google_project_iam_member.event_receiver]
}
