output "topic" {
  description = "The topic's short name."
  value       = var.topic
}

output "id" {
  description = "The topic's full name, projects/P/topics/T."
  value       = local.topic
  # A notification is refused until the storage agent may publish.
  depends_on = [google_pubsub_topic_iam_member.publishers]
}

output "subscription_names" {
  description = "The short names of the subscriptions, as a table's `from` says them."
  value       = concat(keys(google_pubsub_subscription.push), keys(google_pubsub_subscription.pull))
}

output "pull_subscription_paths" {
  description = "The full names of the pull subscriptions, as `landfast pull --subscription` takes them."
  value       = [for name in keys(google_pubsub_subscription.pull) : "projects/${var.project_id}/subscriptions/${name}"]
}
