mock_provider "google" {
  override_during = plan
  mock_resource "google_pubsub_topic" {
    defaults = { id = "projects/acme-data/topics/orders" }
  }
}

variables {
  project_id     = "acme-data"
  project_number = "1234567890"
  topic          = "orders"
  publishers     = { shop = "serviceAccount:shop@acme-data.iam.gserviceaccount.com" }
  push_subscriptions = {
    orders-push = {
      push_endpoint              = "https://landfast-xyz.a.run.app/"
      oidc_service_account_email = "push@acme-data.iam.gserviceaccount.com"
    }
  }
  pull_subscriptions = {
    orders-pull = { subscribers = { worker = "serviceAccount:worker@acme-data.iam.gserviceaccount.com" } }
  }
}

run "without_an_endpoint_messages_wait" {
  command = plan

  variables {
    push_subscriptions = { orders-push = { oidc_service_account_email = "push@acme-data.iam.gserviceaccount.com" } }
  }
  assert {
    condition     = length(google_pubsub_subscription.push["orders-push"].push_config) == 0 && google_pubsub_subscription.push["orders-push"].message_retention_duration == "604800s"
    error_message = "They are delivered somewhere, or lost."
  }
}

run "subscriptions_are_as_landfast_wants_them" {
  command = plan

  assert {
    condition     = google_pubsub_subscription.push["orders-push"].topic == "projects/acme-data/topics/orders"
    error_message = "The push subscription is not of the topic."
  }
  assert {
    condition     = google_pubsub_subscription.push["orders-push"].ack_deadline_seconds == 60 && google_pubsub_subscription.pull["orders-pull"].ack_deadline_seconds == 60
    error_message = "The acknowledgement deadline is not 60 s."
  }
  assert {
    condition     = alltrue([for one in [google_pubsub_subscription.push["orders-push"], google_pubsub_subscription.pull["orders-pull"]] : one.expiration_policy[0].ttl == ""])
    error_message = "An idle subscription would expire."
  }
  assert {
    condition     = alltrue([for one in [google_pubsub_subscription.push["orders-push"], google_pubsub_subscription.pull["orders-pull"]] : one.retry_policy[0].minimum_backoff == "1s" && one.retry_policy[0].maximum_backoff == "60s"])
    error_message = "The retry policy is not 1 s to 60 s."
  }
  assert {
    condition     = alltrue([for one in [google_pubsub_subscription.push["orders-push"], google_pubsub_subscription.pull["orders-pull"]] : length(one.dead_letter_policy) == 0])
    error_message = "Pub/Sub's dead-letter policy is on by default."
  }
  assert {
    condition     = google_pubsub_subscription.push["orders-push"].push_config[0].oidc_token[0].service_account_email == "push@acme-data.iam.gserviceaccount.com"
    error_message = "The pushes are not signed for the push account."
  }
  assert {
    condition     = length(google_pubsub_subscription.push["orders-push"].push_config[0].no_wrapper) == 0
    error_message = "An unwrapped push has no message id."
  }
  assert {
    condition     = google_pubsub_topic_iam_member.publishers["shop"].role == "roles/pubsub.publisher" && google_pubsub_subscription_iam_member.subscribers["orders-pull/worker"].role == "roles/pubsub.subscriber"
    error_message = "The publisher or the subscriber has another role."
  }
  assert {
    condition     = length(google_pubsub_topic_iam_member.forwards) + length(google_pubsub_subscription_iam_member.forwards) == 0
    error_message = "Pub/Sub's agent has grants without a dead-letter policy."
  }
  assert {
    condition     = toset(output.subscription_names) == toset(["orders-push", "orders-pull"]) && output.id == "projects/acme-data/topics/orders" && output.pull_subscription_paths == ["projects/acme-data/subscriptions/orders-pull"]
    error_message = "The outputs name something else."
  }
}

run "a_dead_letter_policy_brings_its_two_grants" {
  command = plan

  variables {
    push_subscriptions = {
      orders-push = {
        push_endpoint              = "https://landfast-xyz.a.run.app/"
        oidc_service_account_email = "push@acme-data.iam.gserviceaccount.com"
        dead_letter_policy         = { topic = "projects/acme-data/topics/orders-dead" }
      }
    }
  }
  assert {
    condition     = google_pubsub_subscription.push["orders-push"].dead_letter_policy[0].max_delivery_attempts == 100
    error_message = "An outage of an hour would drain the subscription."
  }
  assert {
    condition     = google_pubsub_topic_iam_member.forwards["orders-push"].topic == "projects/acme-data/topics/orders-dead" && google_pubsub_topic_iam_member.forwards["orders-push"].member == "serviceAccount:service-1234567890@gcp-sa-pubsub.iam.gserviceaccount.com"
    error_message = "Pub/Sub's agent may not publish what it gives up."
  }
  assert {
    condition     = google_pubsub_subscription_iam_member.forwards["orders-push"].role == "roles/pubsub.subscriber"
    error_message = "Pub/Sub's agent may not acknowledge what it gave up."
  }
}

run "a_topic_that_is_there_is_not_made" {
  command = plan

  variables {
    create_topic = false
  }
  assert {
    condition     = length(google_pubsub_topic.this) == 0 && google_pubsub_subscription.push["orders-push"].topic == "projects/acme-data/topics/orders"
    error_message = "The topic would be made, or is another."
  }
}

run "everyone_may_not_publish" {
  command         = plan
  expect_failures = [var.publishers]

  variables {
    publishers = { all = "allUsers" }
  }
}

run "a_deadline_of_an_hour_is_refused" {
  command         = plan
  expect_failures = [var.push_subscriptions]

  variables {
    push_subscriptions = {
      orders-push = { push_endpoint = "https://x/", oidc_service_account_email = "a@b", ack_deadline_seconds = 3600 }
    }
  }
}

run "a_name_that_pubsub_refuses_is_refused" {
  command         = plan
  expect_failures = [var.topic]

  variables {
    topic = "9orders"
  }
}

run "a_short_name_in_a_dead_letter_policy_is_refused" {
  command         = plan
  expect_failures = [var.push_subscriptions]

  variables {
    push_subscriptions = {
      orders-push = { push_endpoint = "https://x/", oidc_service_account_email = "a@b", dead_letter_policy = { topic = "orders-dead" } }
    }
  }
}

run "a_backoff_of_an_hour_is_refused" {
  command         = plan
  expect_failures = [var.push_subscriptions, var.topic_message_retention_duration]

  variables {
    push_subscriptions = {
      orders-push = { push_endpoint = "https://x/", oidc_service_account_email = "a@b", maximum_backoff = "3600s" }
    }
    topic_message_retention_duration = "60s"
  }
}

run "few_attempts_at_a_pull_are_refused" {
  command         = plan
  expect_failures = [var.pull_subscriptions]

  variables {
    pull_subscriptions = { orders-pull = { dead_letter_policy = { topic = "projects/acme-data/topics/orders-dead", max_delivery_attempts = 3 } } }
  }
}

run "few_attempts_at_a_push_are_refused" {
  command         = plan
  expect_failures = [var.push_subscriptions]

  variables {
    push_subscriptions = {
      orders-push = { push_endpoint = "https://x/", oidc_service_account_email = "a@b", dead_letter_policy = { topic = "projects/acme-data/topics/orders-dead", max_delivery_attempts = 3 } }
    }
  }
}
