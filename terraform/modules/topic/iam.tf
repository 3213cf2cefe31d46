# What publishes events, such as an application or the storage agent of a landing bucket (pubsub.topics.publish).
resource "google_pubsub_topic_iam_member" "publishers" {
  for_each = var.publishers

  project = var.project_id
  topic   = local.topic
  role    = "roles/pubsub.publisher"
  member  = each.value
}

# `landfast pull` opens streams, acknowledges and extends leases (pubsub.subscriptions.consume).
resource "google_pubsub_subscription_iam_member" "subscribers" {
  for_each = merge([
    for name, subscription in var.pull_subscriptions : {
      for who, member in subscription.subscribers : "${name}/${who}" => { subscription = name, member = member }
    }
  ]...)

  project      = var.project_id
  subscription = google_pubsub_subscription.pull[each.value.subscription].name
  role         = "roles/pubsub.subscriber"
  member       = each.value.member
}

# A dead-letter policy, where one was asked for: Pub/Sub's agent publishes what it gives up (pubsub.topics.publish) …
resource "google_pubsub_topic_iam_member" "forwards" {
  for_each = local.forwards

  project = var.project_id
  topic   = each.value
  role    = "roles/pubsub.publisher"
  member  = local.pubsub_agent
}

# … and acknowledges it where it was (pubsub.subscriptions.consume).
resource "google_pubsub_subscription_iam_member" "forwards" {
  for_each = local.forwards

  project      = var.project_id
  subscription = try(google_pubsub_subscription.push[each.key].name, google_pubsub_subscription.pull[each.key].name)
  role         = "roles/pubsub.subscriber"
  member       = local.pubsub_agent
}
