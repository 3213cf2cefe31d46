# landfast makes namespaces and tables, loads and commits (biglake.namespaces.*, biglake.tables.*).
resource "google_biglake_iceberg_catalog_iam_member" "editors" {
  for_each = var.editors

  project = var.project_id
  name    = google_biglake_iceberg_catalog.this.name
  role    = "roles/biglake.editor"
  member  = each.value
}

# Each request charges the project (x-goog-user-project: serviceusage.services.use), a reader's as well; Google has this role on projects only.
resource "google_project_iam_member" "consumers" {
  for_each = merge(var.editors, { for who, member in var.viewers : "viewers/${who}" => member })

  project = coalesce(var.user_project, var.project_id)
  role    = "roles/serviceusage.serviceUsageConsumer"
  member  = each.value
}

# Engines and analysts that read tables through the catalog (biglake.tables.get, getData).
resource "google_biglake_iceberg_catalog_iam_member" "viewers" {
  for_each = var.viewers

  project = var.project_id
  name    = google_biglake_iceberg_catalog.this.name
  role    = "roles/biglake.viewer"
  member  = each.value
}

# A catalog that vends credentials opens the tables' files as an account of its own, which Google makes with it
# (storage.objects.create, get, list, delete).
resource "google_storage_bucket_iam_member" "vending" {
  for_each = local.vends ? toset(var.buckets) : toset([])

  bucket = each.value
  role   = "roles/storage.objectUser"
  member = "serviceAccount:${google_biglake_iceberg_catalog.this.biglake_service_account}"
}

# One that does not: whoever reads a table reads its files, too (storage.objects.get, list).
resource "google_storage_bucket_iam_member" "viewers" {
  for_each = local.vends ? {} : merge([for bucket in var.buckets : { for who, member in var.viewers : "${bucket}/${who}" => { bucket = bucket, member = member } }]...)

  bucket = each.value.bucket
  role   = "roles/storage.objectViewer"
  member = each.value.member
}
