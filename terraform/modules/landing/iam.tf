# Cloud Storage's agent publishes each notification (pubsub.topics.publish).
resource "google_pubsub_topic_iam_member" "storage_agent" {
  count = var.transport == "notification" ? 1 : 0

  project = var.project_id
  topic   = var.topic
  role    = "roles/pubsub.publisher"
  member  = local.storage_agent
}

# The same for Eventarc, whose topic is Eventarc's own, so that the role can stand on the project only.
resource "google_project_iam_member" "storage_agent" {
  count = var.transport == "eventarc" ? 1 : 0

  project = var.project_id
  role    = "roles/pubsub.publisher"
  member  = local.storage_agent
}

# The trigger's account receives events (eventarc.events.receiveEvent); Google has this role on projects only.
resource "google_project_iam_member" "event_receiver" {
  count = var.transport == "eventarc" ? 1 : 0

  project = var.project_id
  role    = "roles/eventarc.eventReceiver"
  member  = "serviceAccount:${var.eventarc.service_account_email}"
}

# Objects are read by their generation, and 404 is told from 403 (storage.objects.get, list).
resource "google_storage_bucket_iam_member" "readers" {
  for_each = var.readers

  bucket = google_storage_bucket.this.name
  role   = "roles/storage.objectViewer"
  member = each.value
}

# `after: move` and `after: delete` put objects away (storage.objects.create, delete besides).
resource "google_storage_bucket_iam_member" "movers" {
  for_each = var.movers

  bucket = google_storage_bucket.this.name
  role   = "roles/storage.objectUser"
  member = each.value
}

# Whoever drops files (storage.objects.create; not delete, so an object is not replaced either).
resource "google_storage_bucket_iam_member" "writers" {
  for_each = var.writers

  bucket = google_storage_bucket.this.name
  role   = "roles/storage.objectCreator"
  member = each.value
}
