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
      "oldest_unacked_page", "oldest_unacked_warn", "publish_stale", "requests_refused", "store_failures", "tokens_refused",
    ])
    error_message = "The set of alerts is another: ${join(", ", keys(output.alert_policies))}."
  }
  assert {
    condition     = strcontains(google_monitoring_alert_policy.oldest_unacked["page"].conditions[0].condition_threshold[0].filter, "orders-push|landing-push") && google_monitoring_alert_policy.oldest_unacked["page"].conditions[0].condition_threshold[0].threshold_value == 600
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
    condition     = length(jsondecode(google_monitoring_dashboard.this.dashboard_json).mosaicLayout.tiles) == 20
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

run "a_disabled_alert_is_not_made" {
  command = plan

  variables {
    disabled_alerts = ["late"]
  }
  assert {
    condition     = !contains(keys(output.alert_policies), "late")
    error_message = "It is made all the same."
  }
}

run "a_channel_by_its_short_name_is_refused" {
  command         = plan
  expect_failures = [var.notification_channels]

  variables {
    notification_channels = ["oncall"]
  }
}
