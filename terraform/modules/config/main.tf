# A configuration file, kept in Secret Manager so that Cloud Run can mount it. It holds references such as ${API_TOKEN}, never
# the values.
resource "google_secret_manager_secret" "this" {
  project   = var.project_id
  secret_id = var.secret_id
  labels    = var.labels

  replication {
    # A key lies in one location, and so does what it encrypts.
    dynamic "user_managed" {
      for_each = var.kms_key_name == null ? [] : [var.kms_key_name]
      content {
        replicas {
          location = var.location
          customer_managed_encryption {
            kms_key_name = user_managed.value
          }
        }
      }
    }
    dynamic "auto" {
      for_each = var.kms_key_name == null ? [true] : []
      content {}
    }
  }
}

resource "google_secret_manager_secret_version" "this" {
  secret      = google_secret_manager_secret.this.id
  secret_data = var.content
  # The old version stays: a revision that is rolled back to could not start without it.
  deletion_policy = "ABANDON"

  lifecycle {
    create_before_destroy = true
  }
}

# Cloud Run reads the version when it starts an instance (secretmanager.versions.access).
resource "google_secret_manager_secret_iam_member" "accessors" {
  for_each = var.accessors

  project   = var.project_id
  secret_id = google_secret_manager_secret.this.secret_id
  role      = "roles/secretmanager.secretAccessor"
  member    = each.value
}
