# BigQuery reads metadata, manifests and data files as the connection's account (storage.objects.get, list).
resource "google_storage_bucket_iam_member" "connection" {
  bucket = var.warehouse_bucket
  role   = "roles/storage.objectViewer"
  member = "serviceAccount:${google_bigquery_connection.this.cloud_resource[0].service_account_id}"
}

# landfast makes the external tables, reads their etags and moves their URIs (bigquery.tables.create, get, update).
resource "google_bigquery_dataset_iam_member" "publishers" {
  for_each = var.publishers

  project    = var.project_id
  dataset_id = google_bigquery_dataset.this.dataset_id
  role       = "roles/bigquery.dataEditor"
  member     = each.value
}

# landfast names the connection in each external table (bigquery.connections.delegate).
resource "google_bigquery_connection_iam_member" "publishers" {
  for_each = var.publishers

  project       = var.project_id
  location      = google_bigquery_connection.this.location
  connection_id = google_bigquery_connection.this.connection_id
  role          = var.create_custom_role ? google_project_iam_custom_role.delegate[0].name : "roles/bigquery.connectionAdmin"
  member        = each.value
}

# Analysts (bigquery.tables.getData). Who runs queries needs roles/bigquery.jobUser on the project that pays for them, besides.
resource "google_bigquery_dataset_iam_member" "readers" {
  for_each = var.readers

  project    = var.project_id
  dataset_id = google_bigquery_dataset.this.dataset_id
  role       = "roles/bigquery.dataViewer"
  member     = each.value
}
