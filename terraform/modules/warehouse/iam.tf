# Data files, ledgers and metadata are created, read and listed; `maintain` deletes what nothing names, and the storage catalog
# replaces version-hint.text (storage.objects.create, get, list, delete).
resource "google_storage_bucket_iam_member" "warehouse_users" {
  for_each = var.object_users

  bucket = google_storage_bucket.warehouse.name
  role   = "roles/storage.objectUser"
  member = each.value
}

# Letters are written to pending/, copied to confirmed/ and deleted where they were; `replay` lists and moves them
# (storage.objects.create, get, list, delete).
resource "google_storage_bucket_iam_member" "dead_letters_users" {
  for_each = var.object_users

  bucket = google_storage_bucket.dead_letters.name
  role   = "roles/storage.objectUser"
  member = each.value
}

# Engines that read the tables' files by themselves (storage.objects.get, list).
resource "google_storage_bucket_iam_member" "warehouse_viewers" {
  for_each = var.object_viewers

  bucket = google_storage_bucket.warehouse.name
  role   = "roles/storage.objectViewer"
  member = each.value
}
