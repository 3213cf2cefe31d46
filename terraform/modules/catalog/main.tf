locals {
  vends = var.credential_mode == "CREDENTIAL_MODE_VENDED_CREDENTIALS"
}

# BigLake's Iceberg REST catalog. Namespaces and tables are landfast's to make; BigQuery reads them as PROJECT.CATALOG.NAMESPACE.TABLE.
resource "google_biglake_iceberg_catalog" "this" {
  project          = var.project_id
  name             = var.name
  catalog_type     = "CATALOG_TYPE_BIGLAKE"
  default_location = var.default_location
  credential_mode  = var.credential_mode
  description      = var.description
  deletion_policy  = var.deletion_policy

  dynamic "restricted_locations_config" {
    for_each = length(var.additional_locations) > 0 ? [true] : []
    content {
      restricted_locations = var.additional_locations
    }
  }
}
