resource "google_storage_bucket" "warehouse" {
  #checkov:skip=CKV_GCP_62:Data access is told by Cloud Audit Logs, which usage logs in a bucket are the older form of.
  #checkov:skip=CKV_GCP_78:Versions would keep what is deleted on purpose; soft delete brings back what was not.
  project                     = var.project_id
  name                        = var.name
  location                    = var.location
  storage_class               = var.storage_class
  labels                      = var.labels
  force_destroy               = var.force_destroy
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

  # Off on purpose: `landfast maintain` deletes what no table metadata names, every day, and each such file would stay as a
  # noncurrent version and be paid for. What was deleted by mistake comes back by soft delete, below.
  versioning {
    enabled = false
  }

  soft_delete_policy {
    retention_duration_seconds = var.soft_delete_retention_seconds
  }

  # A process that is killed in the middle of a large file leaves parts that no listing shows and that are paid for.
  lifecycle_rule {
    condition {
      age = 2
    }
    action {
      type = "AbortIncompleteMultipartUpload"
    }
  }

  dynamic "encryption" {
    for_each = var.kms_key_name == null ? [] : [var.kms_key_name]
    content {
      default_kms_key_name = encryption.value
    }
  }
}

# A bucket of their own: other readers than the tables', and a lifecycle, which a warehouse must not have.
resource "google_storage_bucket" "dead_letters" {
  #checkov:skip=CKV_GCP_62:Data access is told by Cloud Audit Logs, which usage logs in a bucket are the older form of.
  #checkov:skip=CKV_GCP_78:Versions would keep what is deleted on purpose; soft delete brings back what was not.
  project                     = var.project_id
  name                        = var.dead_letters_name
  location                    = var.location
  storage_class               = var.storage_class
  labels                      = var.labels
  force_destroy               = var.force_destroy
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"

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

  # What `landfast replay` has landed. A letter must be there for as long as its delivery may come again; age counts from the move.
  lifecycle_rule {
    condition {
      age            = var.replayed_retention_days
      matches_prefix = ["${var.dead_letters_prefix}/replayed/"]
    }
    action {
      type = "Delete"
    }
  }

  # The letters themselves, only if you say so. Never pending/: those wait for their commits.
  dynamic "lifecycle_rule" {
    for_each = var.confirmed_retention_days == null ? [] : [var.confirmed_retention_days]
    content {
      condition {
        age            = lifecycle_rule.value
        matches_prefix = ["${var.dead_letters_prefix}/confirmed/"]
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
