# External tables over the newest Iceberg metadata. The tables themselves are landfast's, made with the first commit and moved
# with those that follow: Terraform would move them back.
resource "google_bigquery_dataset" "this" {
  project                    = var.project_id
  dataset_id                 = var.dataset_id
  location                   = var.location
  description                = var.description
  labels                     = var.labels
  delete_contents_on_destroy = var.delete_contents_on_destroy

  dynamic "default_encryption_configuration" {
    for_each = var.kms_key_name == null ? [] : [var.kms_key_name]
    content {
      kms_key_name = default_encryption_configuration.value
    }
  }

  lifecycle {
    precondition {
      condition     = lower(var.location) == lower(var.warehouse_location)
      error_message = "The dataset would be in ${var.location} and the warehouse bucket is in ${var.warehouse_location}: BigQuery reads Iceberg files only where the dataset is."
    }
  }
}

# Its account reads the bucket, so that whoever queries needs neither bucket nor connection.
resource "google_bigquery_connection" "this" {
  project       = var.project_id
  connection_id = var.connection_id
  location      = coalesce(var.connection_location, var.location)
  description   = "Reads the Iceberg tables of ${var.warehouse_bucket}."

  cloud_resource {}

  lifecycle {
    precondition {
      condition     = lower(coalesce(var.connection_location, var.location)) == lower(var.location)
      error_message = "The connection would be in ${coalesce(var.connection_location, var.location)} and the dataset in ${var.location}: they must be in one location."
    }
  }
}

resource "google_project_iam_custom_role" "delegate" {
  count = var.create_custom_role ? 1 : 0

  project     = var.project_id
  role_id     = replace("${var.connection_id}_delegate", "-", "_")
  title       = "Use of the connection ${var.connection_id} in tables"
  description = "What landfast needs to put a connection on an external table, and nothing else."
  permissions = ["bigquery.connections.delegate"]
}
