mock_provider "google" {}

variables {
  project_id        = "acme-data"
  name              = "acme-lake"
  dead_letters_name = "acme-letters"
  location          = "europe-west1"
  object_users      = { service = "serviceAccount:landfast@acme-data.iam.gserviceaccount.com" }
}

run "both_buckets_are_closed" {
  command = plan

  assert {
    condition     = alltrue([for one in [google_storage_bucket.warehouse, google_storage_bucket.dead_letters] : one.uniform_bucket_level_access && one.public_access_prevention == "enforced" && !one.force_destroy])
    error_message = "A bucket has access lists, may be public, or is destroyed with its objects."
  }
  assert {
    condition     = alltrue([for one in [google_storage_bucket.warehouse, google_storage_bucket.dead_letters] : !one.versioning[0].enabled && one.soft_delete_policy[0].retention_duration_seconds == 604800])
    error_message = "Versions are kept, or soft delete is off."
  }
  assert {
    condition     = length([for rule in google_storage_bucket.warehouse.lifecycle_rule : rule if one(rule.action).type == "Delete"]) == 0
    error_message = "A lifecycle rule deletes files of tables."
  }
  assert {
    condition     = [for rule in google_storage_bucket.dead_letters.lifecycle_rule : one(rule.condition).matches_prefix if one(rule.action).type == "Delete"] == [tolist(["dead-letters/replayed/"])]
    error_message = "Other letters than those that were replayed are deleted."
  }
  assert {
    condition     = google_storage_bucket_iam_member.warehouse_users["service"].role == "roles/storage.objectUser" && google_storage_bucket_iam_member.dead_letters_users["service"].role == "roles/storage.objectUser" && length(google_storage_bucket_iam_member.warehouse_viewers) == 0
    error_message = "The service has another role on a bucket."
  }
  assert {
    condition     = output.warehouse == "gs://acme-lake/warehouse" && output.dead_letters == "gs://acme-letters/dead-letters" && output.bucket == "acme-lake" && output.dead_letters_bucket == "acme-letters" && output.location == "europe-west1"
    error_message = "The outputs name something else."
  }
}

run "letters_go_when_you_say_so" {
  command = plan

  variables {
    confirmed_retention_days = 90
  }
  assert {
    condition     = contains([for rule in google_storage_bucket.dead_letters.lifecycle_rule : one(rule.condition).age if one(rule.action).type == "Delete"], 90)
    error_message = "Letters are kept for ever."
  }
}

run "letters_whose_delivery_may_come_again_are_kept" {
  command         = plan
  expect_failures = [var.replayed_retention_days]

  variables {
    replayed_retention_days = 1
  }
}

run "a_name_that_cloud_storage_refuses_is_refused" {
  command         = plan
  expect_failures = [var.name]

  variables {
    name = "Acme_Lake"
  }
}

run "one_bucket_for_both_is_refused" {
  command         = plan
  expect_failures = [var.dead_letters_name]

  variables {
    dead_letters_name = "acme-lake"
  }
}
