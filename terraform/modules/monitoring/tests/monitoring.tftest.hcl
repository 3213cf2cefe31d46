mock_provider "google" {}

variables {
  project_id         = "acme-data"
  subscription_names = ["orders-push", "landing-push"]
  service_names      = ["landfast", "landfast-objects"]
  job_names          = ["landfast-maintain"]
  bucket_names       = ["acme-lake"]
}

run "there_is_an_alert_for_each_trouble" {
  command = plan

  assert {
    condition = toset(keys(output.alert_policies)) == toset([
      "conflicts", "dead_letters", "deliveries_nacked", "jobs", "late", "may_land_twice", "memory", "metadata_large", "nothing_lands",
      "oldest_unacked_page", "oldest_unacked_warn", "publish_stale", "requests_full", "requests_refused", "sender_wrong", "store_failures", "tokens_refused",
    ])
    error_message = "The set of alerts is another: ${join(", ", keys(output.alert_policies))}."
  }
  assert {
    condition     = strcontains(google_monitoring_alert_policy.oldest_unacked["oldest_unacked_page"].conditions[0].condition_threshold[0].filter, "orders-push|landing-push") && google_monitoring_alert_policy.oldest_unacked["oldest_unacked_page"].conditions[0].condition_threshold[0].threshold_value == 600
    error_message = "Waiting messages do not page."
  }
  assert {
    condition     = alltrue([for policy in google_monitoring_alert_policy.queries : policy.conditions[0].condition_prometheus_query_language[0].disable_metric_validation])
    error_message = "An alert on a metric that was never written would be refused."
  }
  assert {
    condition     = alltrue([for tile in jsondecode(google_monitoring_dashboard.this.dashboard_json).mosaicLayout.tiles : length(tile.widget.xyChart.dataSets) > 0 && tile.xPos + tile.width <= 48])
    error_message = "A tile is empty, or leaves the page."
  }
  assert {
    condition     = length(jsondecode(google_monitoring_dashboard.this.dashboard_json).mosaicLayout.tiles) == 21
    error_message = "The dashboard has another number of charts."
  }
}

run "without_the_collector_there_are_googles_alone" {
  command = apply

  variables {
    landfast_metrics = false
  }
  assert {
    condition     = toset(keys(output.alert_policies)) == toset(["jobs", "memory", "oldest_unacked_page", "oldest_unacked_warn", "requests_refused", "tokens_refused"])
    error_message = "The set of alerts is another: ${join(", ", keys(output.alert_policies))}."
  }
  assert {
    condition     = !strcontains(google_monitoring_dashboard.this.dashboard_json, "landfast_") && output.dashboard_id == google_monitoring_dashboard.this.id
    error_message = "A chart would stay empty."
  }
}

run "every_alert_can_be_disabled" {
  command = plan

  variables {
    disabled_alerts = [
      "conflicts", "dead_letters", "deliveries_nacked", "jobs", "late", "may_land_twice", "memory", "metadata_large", "oldest_unacked_page", "oldest_unacked_warn",
      "publish_stale", "requests_full", "requests_refused", "sender_wrong", "store_failures", "tokens_refused",
    ]
  }
  assert {
    condition     = join(", ", keys(output.alert_policies)) == "nothing_lands"
    error_message = "Made all the same: ${join(", ", keys(output.alert_policies))}."
  }
}

run "every_alert_names_its_section_of_the_runbook" {
  command = plan

  variables {
    runbook_url = "https://wiki.acme.example/landfast"
  }
  assert {
    condition = alltrue([for name, text in merge(
      { for name, policy in google_monitoring_alert_policy.queries : name => policy.documentation[0].content },
      { for name, policy in google_monitoring_alert_policy.oldest_unacked : name => policy.documentation[0].content },
      { memory = google_monitoring_alert_policy.memory[0].documentation[0].content, jobs = google_monitoring_alert_policy.jobs[0].documentation[0].content },
    ) : endswith(text, "[Runbook](https://wiki.acme.example/landfast#${name})")])
    error_message = "An alert leads nowhere, or elsewhere."
  }
}

run "without_a_page_the_file_is_named" {
  command = plan

  assert {
    condition     = endswith(google_monitoring_alert_policy.memory[0].documentation[0].content, "Runbook: docs/runbook.md#memory") && endswith(google_monitoring_alert_policy.queries["late"].documentation[0].content, "Runbook: docs/runbook.md#late")
    error_message = "An alert does not say where to read on."
  }
}

run "what_never_landed_and_the_first_event_raise_alerts" {
  command = plan

  variables {
    dead_letters = 5
  }
  assert {
    condition     = strcontains(google_monitoring_alert_policy.queries["nothing_lands"].conditions[0].condition_prometheus_query_language[0].query, "or absent(landfast_last_commit_timestamp_seconds)")
    error_message = "A service that never started raises no alert."
  }
  assert {
    condition     = google_monitoring_alert_policy.queries["dead_letters"].conditions[0].condition_prometheus_query_language[0].query == "(sum by (table, reason) (increase(landfast_dead_letters_total[10m])) > 5) or (sum by (table, reason) (landfast_dead_letters_total) >= 5 unless sum by (table, reason) (landfast_dead_letters_total offset 10m))"
    error_message = "The first dead letter of a kind raises no alert."
  }
  assert {
    condition     = strcontains(google_monitoring_alert_policy.queries["tokens_refused"].conditions[0].condition_prometheus_query_language[0].query, "subscription_push_request_count{monitored_resource=\"pubsub_subscription\",subscription_id=~\"orders-push|landing-push\",response_class=\"remote_server_4xx\"}")
    error_message = "What Cloud Run's IAM turns away raises no alert: its own count leaves that out."
  }
}

run "two_of_one_project_are_told_apart" {
  command = plan

  variables {
    metrics_namespace = "landfast-eu"
  }
  assert {
    condition = alltrue([for text in concat(
      [for policy in google_monitoring_alert_policy.queries : policy.conditions[0].condition_prometheus_query_language[0].query],
      flatten([for tile in jsondecode(google_monitoring_dashboard.this.dashboard_json).mosaicLayout.tiles : [for line in tile.widget.xyChart.dataSets : line.timeSeriesQuery.prometheusQuery]]),
    ) : length(regexall("(?:landfast|iceberg)_\\w+", text)) == length(regexall("(?:landfast|iceberg)_\\w+\\{[^}]*namespace=\"landfast-eu\"\\}", text))])
    error_message = "A query takes the metrics of others for its own."
  }
}

run "memory_of_whatever_runs_is_watched" {
  command = plan

  variables {
    worker_pool_names = ["landfast-worker"]
  }
  assert {
    condition = [for condition in google_monitoring_alert_policy.memory[0].conditions : condition.condition_threshold[0].filter] == [
      for type, name in { job = "job_name = monitoring.regex.full_match(\"landfast-maintain\")", revision = "service_name = monitoring.regex.full_match(\"landfast|landfast-objects\")", worker_pool = "worker_pool_name = monitoring.regex.full_match(\"landfast-worker\")" } :
      "resource.type = \"cloud_run_${type}\" AND metric.type = \"run.googleapis.com/container/memory/utilizations\" AND resource.labels.${name}"
    ]
    error_message = "Something runs out of memory, and nobody is told."
  }
}

run "a_worker_alone_is_watched" {
  command = plan

  variables {
    service_names     = []
    job_names         = []
    worker_pool_names = ["landfast-worker"]
  }
  assert {
    condition     = length(google_monitoring_alert_policy.memory[0].conditions) == 1 && !contains(keys(output.alert_policies), "jobs")
    error_message = "It is not, or there is an alert on nothing."
  }
}

run "what_waits_on_purpose_wakes_nobody" {
  command = plan

  variables {
    paused_subscriptions = ["orders-push"]
  }
  assert {
    condition     = strcontains(google_monitoring_alert_policy.oldest_unacked["oldest_unacked_page"].conditions[0].condition_threshold[0].filter, "full_match(\"landing-push\")") && strcontains(google_monitoring_alert_policy.queries["nothing_lands"].conditions[0].condition_prometheus_query_language[0].query, "subscription_id=~\"landing-push\"")
    error_message = "An alert counts what waits on purpose."
  }
  assert {
    condition     = strcontains(google_monitoring_alert_policy.oldest_unacked["paused_too_long"].conditions[0].condition_threshold[0].filter, "full_match(\"orders-push\")") && google_monitoring_alert_policy.oldest_unacked["paused_too_long"].conditions[0].condition_threshold[0].threshold_value == 432000
    error_message = "Nobody is told before what waits is deleted."
  }
  assert {
    condition     = strcontains(google_monitoring_dashboard.this.dashboard_json, "orders-push|landing-push")
    error_message = "What waits is not shown."
  }
}

run "where_all_wait_on_purpose_nobody_is_told_of_it" {
  command = plan

  variables {
    paused_subscriptions = ["orders-push", "landing-push"]
  }
  assert {
    condition     = length(setintersection(keys(output.alert_policies), ["nothing_lands", "oldest_unacked_page", "oldest_unacked_warn"])) == 0
    error_message = "An alert would never end."
  }
}

run "subscriptions_of_eventarc_are_watched" {
  command = plan

  variables {
    subscription_patterns = ["eventarc-europe-west1-acme-drop-landed-sub-[0-9]+"]
  }
  assert {
    condition     = strcontains(google_monitoring_alert_policy.oldest_unacked["oldest_unacked_page"].conditions[0].condition_threshold[0].filter, "orders-push|landing-push|eventarc-europe-west1-acme-drop-landed-sub-[0-9]+")
    error_message = "They are not."
  }
}

run "an_alert_that_is_not_there_is_not_disabled" {
  command         = plan
  expect_failures = [var.disabled_alerts]

  variables {
    disabled_alerts = ["oldest_unacked"]
  }
}
run "a_channel_by_its_short_name_is_refused" {
  command         = plan
  expect_failures = [var.notification_channels]

  variables {
    notification_channels = ["oncall"]
  }
}
