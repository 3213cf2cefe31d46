mock_provider "google" {}

variables {
  project_id     = "acme-data"
  project_number = "1234567890"
  name           = "acme-landing"
  location       = "europe-west1"
  topic          = "projects/acme-data/topics/landing"
  readers        = { service = "serviceAccount:landfast@acme-data.iam.gserviceaccount.com" }
}

run "notifications_go_to_the_topic" {
  command = plan

  assert {
    condition     = google_storage_notification.this[0].topic == "projects/acme-data/topics/landing" && google_storage_notification.this[0].payload_format == "JSON_API_V1" && toset(google_storage_notification.this[0].event_types) == toset(["OBJECT_FINALIZE"])
    error_message = "The notification is of another topic, format or kind."
  }
  assert {
    condition     = google_pubsub_topic_iam_member.storage_agent[0].member == "serviceAccount:service-1234567890@gs-project-accounts.iam.gserviceaccount.com" && google_pubsub_topic_iam_member.storage_agent[0].role == "roles/pubsub.publisher" && google_pubsub_topic_iam_member.storage_agent[0].topic == "projects/acme-data/topics/landing"
    error_message = "Cloud Storage's agent may not publish to the topic."
  }
  assert {
    condition     = length(google_project_iam_member.storage_agent) + length(google_project_iam_member.event_receiver) + length(google_eventarc_trigger.this) == 0
    error_message = "There is something of Eventarc's, or a grant on the project."
  }
  assert {
    condition     = google_storage_bucket.this.uniform_bucket_level_access && google_storage_bucket.this.public_access_prevention == "enforced"
    error_message = "The bucket is not closed."
  }
  assert {
    condition     = google_storage_bucket_iam_member.readers["service"].role == "roles/storage.objectViewer" && length(google_storage_bucket_iam_member.movers) == 0
    error_message = "The service may do more than read."
  }
  assert {
    condition     = output.bucket == "acme-landing" && output.url == "gs://acme-landing" && output.eventarc_subscription == null
    error_message = "The outputs name something else."
  }
}

run "eventarc_instead" {
  command = plan

  variables {
    transport = "eventarc"
    topic     = null
    eventarc  = { service_account_email = "push@acme-data.iam.gserviceaccount.com", service_name = "landfast-objects", service_region = "europe-west1" }
  }
  assert {
    condition     = length(google_storage_notification.this) == 0 && google_eventarc_trigger.this[0].destination[0].cloud_run_service[0].service == "landfast-objects" && google_eventarc_trigger.this[0].destination[0].cloud_run_service[0].path == "/"
    error_message = "The trigger goes elsewhere, or there is a notification besides."
  }
  assert {
    condition     = tomap({ for one in google_eventarc_trigger.this[0].matching_criteria : one.attribute => one.value }) == tomap({ type = "google.cloud.storage.object.v1.finalized", bucket = "acme-landing" })
    error_message = "The trigger takes other events."
  }
  assert {
    condition     = google_eventarc_trigger.this[0].name == "acme-landing-landed" && output.eventarc_subscription_pattern == "eventarc-europe-west1-acme-landing-landed-sub-[0-9]+"
    error_message = "The trigger is called otherwise, or its subscription is not found."
  }
  assert {
    condition     = google_project_iam_member.event_receiver[0].member == "serviceAccount:push@acme-data.iam.gserviceaccount.com" && google_project_iam_member.storage_agent[0].role == "roles/pubsub.publisher"
    error_message = "The trigger's account may not receive, or the storage agent may not publish."
  }
}

run "a_trigger_has_a_name_that_eventarc_takes" {
  command = plan

  variables {
    name      = "2026.the_longest-name-that-a-bucket-of-the-department-may-have1"
    transport = "eventarc"
    topic     = null
    eventarc  = { service_account_email = "push@acme-data.iam.gserviceaccount.com", service_name = "landfast-objects", service_region = "europe-west1" }
  }
  assert {
    condition     = can(regex("^[a-z][a-z0-9-]{0,61}[a-z0-9]$", google_eventarc_trigger.this[0].name)) && strcontains(google_eventarc_trigger.this[0].name, "2026-the-longest-name")
    error_message = "Eventarc would refuse ${google_eventarc_trigger.this[0].name}."
  }
}

run "so_has_one_of_a_long_name" {
  command = plan

  variables {
    name      = "the-longest-of-all-the-names-that-a-bucket-here-may-have-is-it1"
    transport = "eventarc"
    topic     = null
    eventarc  = { service_account_email = "push@acme-data.iam.gserviceaccount.com", service_name = "landfast-objects", service_region = "europe-west1" }
  }
  assert {
    condition     = can(regex("^[a-z][a-z0-9-]{0,61}[a-z0-9]$", google_eventarc_trigger.this[0].name))
    error_message = "Eventarc would refuse ${google_eventarc_trigger.this[0].name}."
  }
}

run "names_that_cloud_storage_refuses" {
  command         = plan
  expect_failures = [var.name]

  variables {
    name = "192.168.0.1"
  }
}

run "objects_that_are_put_away_want_more" {
  command = plan

  variables {
    readers = {}
    movers  = { service = "serviceAccount:landfast@acme-data.iam.gserviceaccount.com" }
  }
  assert {
    condition     = google_storage_bucket_iam_member.movers["service"].role == "roles/storage.objectUser"
    error_message = "The service may not move objects."
  }
}

run "a_short_topic_is_refused" {
  command         = plan
  expect_failures = [var.topic]

  variables {
    topic = "landing"
  }
}

run "objects_are_kept_as_long_as_their_events_come" {
  command         = plan
  expect_failures = [var.delete_after_days]

  variables {
    delete_after_days = 1
  }
}
