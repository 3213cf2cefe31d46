output "bucket" {
  description = "The bucket's name, as a table's `from` says it."
  value       = google_storage_bucket.this.name
  # Whoever reads there waits until it may.
  depends_on = [google_storage_bucket_iam_member.readers, google_storage_bucket_iam_member.movers]
}

output "url" {
  description = "Where to put files: gs://BUCKET."
  value       = "gs://${google_storage_bucket.this.name}"
}

output "eventarc_subscription" {
  description = "With eventarc: the subscription whose acknowledgement deadline is to be raised (`gcloud pubsub subscriptions update NAME --project=PROJECT --ack-deadline=600`); else null."
  value       = try(google_eventarc_trigger.this[0].transport[0].pubsub[0].subscription, null)
}

output "eventarc_subscription_pattern" {
  description = "With eventarc: what that subscription is called, as a regular expression that is known before it is there; else null."
  value       = var.transport == "eventarc" ? "eventarc-${lower(var.location)}-${local.trigger_name}-sub-[0-9]+" : null
}
