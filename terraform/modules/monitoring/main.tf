locals {
  services      = join("|", var.service_names)
  subscriptions = join("|", var.subscription_names)

  # Google's metrics, which are there without the collector.
  google_queries = {
    requests_refused = length(var.service_names) == 0 ? null : {
      display_name = "pushes are refused"
      severity     = "WARNING"
      duration     = "300s"
      query        = <<-EOT
        sum by (service_name) (rate(run_googleapis_com:request_count{monitored_resource="cloud_run_revision",service_name=~"${local.services}",response_code=~"429|5.."}[5m]))
        / sum by (service_name) (rate(run_googleapis_com:request_count{monitored_resource="cloud_run_revision",service_name=~"${local.services}"}[5m])) > ${var.refused_ratio}
      EOT
      means        = "More than ${var.refused_ratio * 100} % of the requests are answered 429 or 5xx; they come again. The log says why, once a minute: the limits are reached, or store or catalog is away."
    }
    tokens_refused = length(var.service_names) == 0 ? null : {
      display_name = "a token is refused"
      severity     = "WARNING"
      duration     = "0s"
      query        = <<-EOT
        sum by (service_name) (increase(run_googleapis_com:request_count{monitored_resource="cloud_run_revision",service_name=~"${local.services}",response_code=~"401|403"}[10m])) > 0
      EOT
      means        = "Somebody was not let in. If the backlog grows, it is Pub/Sub: look at roles/run.invoker of the push account, and whether Pub/Sub's agent may mint tokens for it."
    }
  }

  # landfast's own, by docs/metrics.md.
  landfast_queries = {
    nothing_lands = length(var.subscription_names) == 0 ? null : {
      display_name = "nothing lands"
      severity     = "CRITICAL"
      duration     = "120s"
      query        = <<-EOT
        (time() - max(landfast_last_commit_timestamp_seconds) > ${var.seconds_since_commit})
        and on () (sum(pubsub_googleapis_com:subscription_num_undelivered_messages{monitored_resource="pubsub_subscription",subscription_id=~"${local.subscriptions}"}) > 0)
      EOT
      means        = "No table had a commit for ${var.seconds_since_commit} s, and messages wait."
    }
    deliveries_nacked = {
      display_name = "deliveries come again"
      severity     = "WARNING"
      duration     = "600s"
      query        = "sum(rate(landfast_deliveries_total{outcome=\"nacked\"}[5m])) > 0 or sum by (table, reason) (rate(landfast_batches_abandoned_total[5m])) > 0"
      means        = "Deliveries are refused for minutes. The label reason says whether a store or catalog is away (unavailable) or someone has to mend the table (table_mismatch, rejected)."
    }
    dead_letters = {
      display_name = "records became dead letters"
      severity     = "WARNING"
      duration     = "0s"
      query        = "sum by (table, reason) (increase(landfast_dead_letters_total[10m])) > ${var.dead_letters}"
      means        = "Records do not fit their table. Mend table or configuration, then `landfast replay`. too_old_to_prove, redivided and no_route want an operator."
    }
    publish_stale = {
      display_name = "BigQuery shows old rows"
      severity     = "CRITICAL"
      duration     = "60s"
      query        = "max by (table) (landfast_unpublished_seconds) > ${var.publish_staleness_seconds}"
      means        = "The external table was not moved for ${var.publish_staleness_seconds} s after a commit. The log says what BigQuery answers."
    }
    conflicts = {
      display_name = "writers get in each other's way"
      severity     = "WARNING"
      duration     = "600s"
      query        = "sum by (table) (rate(landfast_commit_retries_total{kind=\"conflict\"}[10m])) / sum by (table) (rate(iceberg_batches_committed_total[10m])) > ${var.conflict_ratio}"
      means        = "More than ${var.conflict_ratio} conflicts a commit. Let fewer instances write the table: max_instance_count, or a service of its own."
    }
    late = {
      display_name = "rows land late"
      severity     = "WARNING"
      duration     = "300s"
      query        = "histogram_quantile(0.99, sum by (le, table) (rate(landfast_freshness_seconds_bucket[5m]))) > ${var.freshness_seconds}"
      means        = "1 % of the deliveries take longer than ${var.freshness_seconds} s from publish to commit."
    }
    metadata_large = {
      display_name = "a table's metadata nears BigLake's limit"
      severity     = "WARNING"
      duration     = "0s"
      query        = "sum by (table) (increase(landfast_snapshots_pressed_out_total[1h])) > 0"
      means        = "Snapshots go before their time, because the metadata nears 1 MB, past which nothing lands."
    }
    may_land_twice = {
      display_name = "events may land twice"
      severity     = "WARNING"
      duration     = "0s"
      query        = "increase(landfast_forwarded_messages_total[10m]) > 0 or increase(landfast_no_dedupe_attribute_total[10m]) > 0"
      means        = "A dead-letter policy of Pub/Sub forwarded messages, which have new ids, or messages lack their source's dedupe_attribute."
    }
    store_failures = {
      display_name = "the bucket refuses"
      severity     = "WARNING"
      duration     = "600s"
      query        = "sum by (status) (rate(landfast_store_failures_total[5m])) > 0.1"
      means        = "Requests to Cloud Storage fail by this status. They are sent again for 10 s."
    }
  }

  queries = { for name, query in merge(local.google_queries, var.landfast_metrics ? local.landfast_queries : {}) : name => query if query != null && !contains(var.disabled_alerts, name) }

  documentation = { for name, query in local.queries : name => var.runbook_url == null ? query.means : "${query.means}\n\n[Runbook](${var.runbook_url}#${replace(name, "_", "-")})" }
}

resource "google_monitoring_alert_policy" "queries" {
  for_each = local.queries

  project               = var.project_id
  display_name          = "${var.name}: ${each.value.display_name}"
  combiner              = "OR"
  severity              = each.value.severity
  notification_channels = var.notification_channels
  user_labels           = var.labels

  conditions {
    display_name = each.value.display_name
    condition_prometheus_query_language {
      query               = trimspace(each.value.query)
      duration            = each.value.duration
      evaluation_interval = "60s"
      # A metric that was never written is unknown to Monitoring, which would refuse the alert.
      disable_metric_validation = true
    }
  }

  documentation {
    content   = local.documentation[each.key]
    mime_type = "text/markdown"
  }

  alert_strategy {
    auto_close = "86400s"
  }
}

locals {
  ages = length(var.subscription_names) == 0 ? {} : {
    page = { severity = "CRITICAL", threshold = var.unacked_page_seconds, duration = "60s" }
    warn = { severity = "WARNING", threshold = var.unacked_warn_seconds, duration = "300s" }
  }
}

resource "google_monitoring_alert_policy" "oldest_unacked" {
  for_each = local.ages

  project               = var.project_id
  display_name          = "${var.name}: messages wait for more than ${each.value.threshold} s"
  combiner              = "OR"
  severity              = each.value.severity
  notification_channels = var.notification_channels
  user_labels           = var.labels

  conditions {
    display_name = "oldest unacknowledged message"
    condition_threshold {
      filter          = "resource.type = \"pubsub_subscription\" AND metric.type = \"pubsub.googleapis.com/subscription/oldest_unacked_message_age\" AND resource.labels.subscription_id = monitoring.regex.full_match(\"${local.subscriptions}\")"
      comparison      = "COMPARISON_GT"
      threshold_value = each.value.threshold
      duration        = each.value.duration
      aggregations {
        alignment_period   = "60s"
        per_series_aligner = "ALIGN_MAX"
      }
    }
  }

  documentation {
    content   = "The oldest message that is not acknowledged waits for longer than ${each.value.threshold} s: less lands than comes, or nothing does."
    mime_type = "text/markdown"
  }
}

resource "google_monitoring_alert_policy" "memory" {
  count = length(var.service_names) == 0 ? 0 : 1

  project               = var.project_id
  display_name          = "${var.name}: memory is short"
  combiner              = "OR"
  severity              = "WARNING"
  notification_channels = var.notification_channels
  user_labels           = var.labels

  conditions {
    display_name = "memory of an instance"
    condition_threshold {
      filter          = "resource.type = \"cloud_run_revision\" AND metric.type = \"run.googleapis.com/container/memory/utilizations\" AND resource.labels.service_name = monitoring.regex.full_match(\"${local.services}\")"
      comparison      = "COMPARISON_GT"
      threshold_value = var.memory_ratio
      duration        = "300s"
      aggregations {
        alignment_period     = "60s"
        per_series_aligner   = "ALIGN_PERCENTILE_99"
        cross_series_reducer = "REDUCE_MAX"
        group_by_fields      = ["resource.label.service_name"]
      }
    }
  }

  documentation {
    content   = "Cloud Run ends an instance that goes past its memory; what it held comes again. Give it more memory, or lower server.max_in_flight_bytes."
    mime_type = "text/markdown"
  }
}

resource "google_monitoring_alert_policy" "jobs" {
  count = length(var.job_names) == 0 ? 0 : 1

  project               = var.project_id
  display_name          = "${var.name}: maintain or verify failed"
  combiner              = "OR"
  severity              = "WARNING"
  notification_channels = var.notification_channels
  user_labels           = var.labels

  conditions {
    display_name = "failed executions"
    condition_threshold {
      filter          = "resource.type = \"cloud_run_job\" AND metric.type = \"run.googleapis.com/job/completed_execution_count\" AND metric.labels.result = \"failed\" AND resource.labels.job_name = monitoring.regex.full_match(\"${join("|", var.job_names)}\")"
      comparison      = "COMPARISON_GT"
      threshold_value = 0
      duration        = "0s"
      aggregations {
        alignment_period   = "300s"
        per_series_aligner = "ALIGN_SUM"
      }
    }
  }

  documentation {
    content   = "The job's log names the table and the error. verify exits 3 where it found a table damaged."
    mime_type = "text/markdown"
  }
}
