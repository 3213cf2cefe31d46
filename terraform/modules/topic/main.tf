locals {
  # The full name, known while planning, and there once the topic is.
  topic = "projects/${var.project_id}/topics/${var.create_topic ? google_pubsub_topic.this[0].name : var.topic}"
  # Where the dead-letter policies forward to, by subscription.
  forwards = merge(
    { for name, subscription in var.push_subscriptions : name => subscription.dead_letter_policy.topic if subscription.dead_letter_policy != null },
    { for name, subscription in var.pull_subscriptions : name => subscription.dead_letter_policy.topic if subscription.dead_letter_policy != null },
  )
  # Deterministic: made by Google with the API.
  pubsub_agent = "serviceAccount:service-${var.project_number}@gcp-sa-pubsub.iam.gserviceaccount.com"
}

resource "google_pubsub_topic" "this" {
  count = var.create_topic ? 1 : 0

  project                    = var.project_id
  name                       = var.topic
  labels                     = var.topic_labels
  kms_key_name               = var.kms_key_name
  message_retention_duration = var.topic_message_retention_duration

  dynamic "message_storage_policy" {
    for_each = length(var.allowed_persistence_regions) > 0 ? [true] : []
    content {
      allowed_persistence_regions = var.allowed_persistence_regions
    }
  }

  dynamic "schema_settings" {
    for_each = var.schema == null ? [] : [var.schema]
    content {
      schema   = schema_settings.value.name
      encoding = schema_settings.value.encoding
    }
  }
}

resource "google_pubsub_subscription" "push" {
  for_each = var.push_subscriptions

  project                    = var.project_id
  name                       = each.key
  topic                      = local.topic
  labels                     = var.subscription_labels
  filter                     = each.value.filter
  ack_deadline_seconds       = each.value.ack_deadline_seconds
  message_retention_duration = each.value.message_retention_duration

  # Pub/Sub's default deletes a subscription that was idle for 31 days, with its messages.
  expiration_policy {
    ttl = ""
  }

  # Without one Pub/Sub sends again at once what was answered 429.
  retry_policy {
    minimum_backoff = each.value.minimum_backoff
    maximum_backoff = each.value.maximum_backoff
  }

  dynamic "push_config" {
    for_each = each.value.push_endpoint == null ? [] : [each.value]
    content {
      push_endpoint = push_config.value.push_endpoint

      oidc_token {
        service_account_email = push_config.value.oidc_service_account_email
        audience              = push_config.value.audience
      }
    }
  }

  dynamic "dead_letter_policy" {
    for_each = each.value.dead_letter_policy == null ? [] : [each.value.dead_letter_policy]
    content {
      dead_letter_topic     = dead_letter_policy.value.topic
      max_delivery_attempts = dead_letter_policy.value.max_delivery_attempts
    }
  }
}

resource "google_pubsub_subscription" "pull" {
  for_each = var.pull_subscriptions

  project                      = var.project_id
  name                         = each.key
  topic                        = local.topic
  labels                       = var.subscription_labels
  filter                       = each.value.filter
  ack_deadline_seconds         = each.value.ack_deadline_seconds
  message_retention_duration   = each.value.message_retention_duration
  enable_exactly_once_delivery = each.value.enable_exactly_once_delivery

  expiration_policy {
    ttl = ""
  }

  retry_policy {
    minimum_backoff = each.value.minimum_backoff
    maximum_backoff = each.value.maximum_backoff
  }

  dynamic "dead_letter_policy" {
    for_each = each.value.dead_letter_policy == null ? [] : [each.value.dead_letter_policy]
    content {
      dead_letter_topic     = dead_letter_policy.value.topic
      max_delivery_attempts = dead_letter_policy.value.max_delivery_attempts
    }
  }
}
