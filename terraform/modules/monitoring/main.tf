locals {
  services      = join("|", var.service_names)
  subscriptions = join("|", concat(var.subscription_names, var.subscription_patterns))
  # Where it is news that messages wait.
  awaited = join("|", concat([for name in var.subscription_names : name if !contains(var.paused_subscriptions, name)], var.subscription_patterns))
  # Pub/Sub tells of requests that Cloud Run turns away before landfast sees them (IAM, no instance left): Cloud Run's own count leaves them out.
  pushes = "pubsub_googleapis_com:subscription_push_request_count{monitored_resource=\"pubsub_subscription\",subscription_id=~\"${replace(local.subscriptions, "%", "%%")}\"%s}"

  # Of this deployment alone, where the collector says whose they are.
  own      = var.metrics_namespace == null ? "" : "{namespace=\"${var.metrics_namespace}\"}"
  also_own = var.metrics_namespace == null ? "" : ",namespace=\"${var.metrics_namespace}\""

  # An event that is counted. A counter begins with its first event, which Managed Service for Prometheus takes for its zero: so a series that
  # was not there before is an event as well. By which labels, of which counter, in which time, how many are nothing unusual.
  event = "(sum by (%[1]s) (increase(%[2]s[%[3]s])) > %[4]v) or (sum by (%[1]s) (%[2]s) >= %[4]v unless sum by (%[1]s) (%[2]s offset %[3]s))"

  # Google's metrics, which are there without the collector.
  google_queries = {
    requests_refused = length(var.service_names) == 0 ? null : {
      display_name = "pushes are refused"
      severity     = "WARNING"
      duration     = "300s"
      query        = <<-EOT
        (sum by (service_name) (rate(run_googleapis_com:request_count{monitored_resource="cloud_run_revision",service_name=~"${local.services}",response_code=~"429|5.."}[5m]))
        / sum by (service_name) (rate(run_googleapis_com:request_count{monitored_resource="cloud_run_revision",service_name=~"${local.services}"}[5m])) > ${var.refused_ratio})
        or (sum by (subscription_id) (rate(${format(local.pushes, ",response_class!=\"ack\"")}[5m]))
        / sum by (subscription_id) (rate(${format(local.pushes, "")}[5m])) > ${var.refused_ratio})
      EOT
      means        = "More than ${var.refused_ratio * 100} % of the requests are answered 429 or 5xx, or of the pushes are not acknowledged; they come again. The log says why, once a minute: the limits are reached, or store or catalog is away."
    }
    tokens_refused = length(var.service_names) == 0 ? null : {
      display_name = "a token is refused"
      severity     = "WARNING"
      duration     = "120s"
      query        = <<-EOT
        (sum by (service_name) (increase(run_googleapis_com:request_count{monitored_resource="cloud_run_revision",service_name=~"${local.services}",response_code=~"401|403"}[10m])) > 5)
        or (sum by (subscription_id) (rate(${format(local.pushes, ",response_class=\"remote_server_4xx\"")}[5m]))
        / sum by (subscription_id) (rate(${format(local.pushes, "")}[5m])) > 0.9)
      EOT
      means        = "Somebody was not let in, more than five times in ten minutes, or nearly all pushes of a subscription are answered 4xx, as Cloud Run's IAM does. Look at roles/run.invoker of the push account, and whether Pub/Sub's agent may sign for it."
    }
  }

  # landfast's own, by docs/metrics.md.
  landfast_queries = {
    nothing_lands = local.awaited == "" ? null : {
      display_name = "nothing lands"
      severity     = "CRITICAL"
      duration     = "120s"
      query        = <<-EOT
        (time() - max(landfast_last_commit_timestamp_seconds${local.own}) > ${var.seconds_since_commit} or absent(landfast_last_commit_timestamp_seconds${local.own}))
        and on () (sum(pubsub_googleapis_com:subscription_num_undelivered_messages{monitored_resource="pubsub_subscription",subscription_id=~"${local.awaited}"}) > 0)
      EOT
      means        = "No table had a commit for ${var.seconds_since_commit} s, or no process tells of one at all, and messages wait."
    }
    deliveries_nacked = {
      display_name = "deliveries come again"
      severity     = "WARNING"
      duration     = "600s"
      query        = "sum(rate(landfast_deliveries_total{outcome=\"nacked\"${local.also_own}}[5m])) > 0 or sum by (table, reason) (rate(landfast_batches_abandoned_total${local.own}[5m])) > 0"
      means        = "Deliveries are refused for minutes. The label reason says whether a store or catalog is away (unavailable) or someone has to mend the table (table_mismatch, rejected)."
    }
    dead_letters = {
      display_name = "records became dead letters"
      severity     = "WARNING"
      duration     = "0s"
      query        = format(local.event, "table, reason", "landfast_dead_letters_total${local.own}", "10m", var.dead_letters)
      means        = "Records do not fit their table. Mend table or configuration, then `landfast replay`. too_old_to_prove, redivided and no_route want an operator."
    }
    publish_stale = {
      display_name = "BigQuery shows old rows"
      severity     = "CRITICAL"
      duration     = "60s"
      query        = "max by (table) (landfast_unpublished_seconds${local.own}) > ${var.publish_staleness_seconds}"
      means        = "The external table was not moved for ${var.publish_staleness_seconds} s after a commit. The log says what BigQuery answers."
    }
    conflicts = {
      display_name = "writers get in each other's way"
      severity     = "WARNING"
      duration     = "600s"
      query        = "sum by (table) (rate(landfast_commit_retries_total{kind=\"conflict\"${local.also_own}}[10m])) / sum by (table) (rate(iceberg_batches_committed_total${local.own}[10m])) > ${var.conflict_ratio}"
      means        = "More than ${var.conflict_ratio} conflicts a commit. Let fewer instances write the table: max_instance_count, or a service of its own."
    }
    late = {
      display_name = "rows land late"
      severity     = "WARNING"
      duration     = "300s"
      query        = "histogram_quantile(0.99, sum by (le, table) (rate(landfast_freshness_seconds_bucket${local.own}[5m]))) > ${var.freshness_seconds}"
      means        = "1 % of the deliveries take longer than ${var.freshness_seconds} s from publish to commit."
    }
    metadata_large = {
      display_name = "a table's metadata nears BigLake's limit"
      severity     = "WARNING"
      duration     = "0s"
      query        = format(local.event, "table", "landfast_snapshots_pressed_out_total${local.own}", "1h", 0)
      means        = "Snapshots go before their time, because the metadata nears 1 MB, past which nothing lands."
    }
    may_land_twice = {
      display_name = "events may land twice"
      severity     = "WARNING"
      duration     = "0s"
      query        = "${format(local.event, "", "landfast_forwarded_messages_total${local.own}", "10m", 0)} or ${format(local.event, "source", "landfast_no_dedupe_attribute_total${local.own}", "10m", 0)}"
      means        = "A dead-letter policy of Pub/Sub forwarded messages, which have new ids, or messages lack their source's dedupe_attribute."
    }
    requests_full = {
      display_name = "the limits are reached"
      severity     = "WARNING"
      duration     = "300s"
      query        = "sum(rate(landfast_refused_requests_total{reason=\"full\"${local.also_own}}[5m])) > 0"
      means        = "Requests are answered 429 for minutes, since max_in_flight_requests or max_in_flight_bytes are held; they come again."
    }
    sender_wrong = {
      display_name = "a sender is refused"
      severity     = "WARNING"
      duration     = "0s"
      query        = format(local.event, "reason", "landfast_refused_requests_total{reason!~\"full|shutting_down|unavailable\"${local.also_own}}", "10m", 0)
      means        = "Requests are refused for what they are: the label reason says why, such as not_an_event, too_large or unauthenticated. Pub/Sub sends its own again and again."
    }
    store_failures = {
      display_name = "the bucket refuses"
      severity     = "WARNING"
      duration     = "600s"
      query        = "sum by (status) (rate(landfast_store_failures_total${local.own}[5m])) > 0.1"
      means        = "Requests to Cloud Storage fail by this status. They are sent again for 10 s."
    }
  }

  queries = { for name, query in merge(local.google_queries, var.landfast_metrics ? local.landfast_queries : {}) : name => query if query != null && !contains(var.disabled_alerts, name) }

  ages = { for name, age in {
    oldest_unacked_page = { severity = "CRITICAL", threshold = var.unacked_page_seconds, duration = "60s", of = local.awaited }
    oldest_unacked_warn = { severity = "WARNING", threshold = var.unacked_warn_seconds, duration = "300s", of = local.awaited }
    paused_too_long     = { severity = "CRITICAL", threshold = var.paused_seconds, duration = "60s", of = join("|", var.paused_subscriptions) }
  } : name => age if age.of != "" && !contains(var.disabled_alerts, name) }

  # Whose memory is watched, by what Cloud Run calls them. A job may be over soon.
  containers = { for type, container in {
    revision    = { of = "an instance", label = "service_name", names = var.service_names, duration = "300s" }
    worker_pool = { of = "a worker", label = "worker_pool_name", names = var.worker_pool_names, duration = "300s" }
    job         = { of = "a job", label = "job_name", names = var.job_names, duration = "0s" }
  } : type => container if length(container.names) > 0 }

  # What every alert says, and where to read on.
  means = merge(
    { for name, query in local.queries : name => query.means },
    { for name, age in local.ages : name => name == "paused_too_long" ? "A message of a paused subscription waits for longer than ${age.threshold} s. Past the subscription's retention it is deleted." : "The oldest message that is not acknowledged waits for longer than ${age.threshold} s: less lands than comes, or nothing does." },
    {
      memory = "Cloud Run ends an instance that goes past its memory; what it held comes again. Give it more memory, or lower server.max_in_flight_bytes."
      jobs   = "The job's log names the table and the error. verify exits 3 where it found a table damaged."
    },
  )
  documentation = { for name, text in local.means : name => "${text}\n\n${var.runbook_url == null ? "Runbook: docs/runbook.md#${name}" : "[Runbook](${var.runbook_url}#${name})"}" }
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
      filter          = "resource.type = \"pubsub_subscription\" AND metric.type = \"pubsub.googleapis.com/subscription/oldest_unacked_message_age\" AND resource.labels.subscription_id = monitoring.regex.full_match(\"${each.value.of}\")"
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
    content   = local.documentation[each.key]
    mime_type = "text/markdown"
  }

  alert_strategy {
    auto_close = "86400s"
  }
}

resource "google_monitoring_alert_policy" "memory" {
  count = length(local.containers) == 0 || contains(var.disabled_alerts, "memory") ? 0 : 1

  project               = var.project_id
  display_name          = "${var.name}: memory is short"
  combiner              = "OR"
  severity              = "WARNING"
  notification_channels = var.notification_channels
  user_labels           = var.labels

  dynamic "conditions" {
    for_each = local.containers
    content {
      display_name = "memory of ${conditions.value.of}"
      condition_threshold {
        filter          = "resource.type = \"cloud_run_${conditions.key}\" AND metric.type = \"run.googleapis.com/container/memory/utilizations\" AND resource.labels.${conditions.value.label} = monitoring.regex.full_match(\"${join("|", conditions.value.names)}\")"
        comparison      = "COMPARISON_GT"
        threshold_value = var.memory_ratio
        duration        = conditions.value.duration
        aggregations {
          alignment_period     = "60s"
          per_series_aligner   = "ALIGN_PERCENTILE_99"
          cross_series_reducer = "REDUCE_MAX"
          # The collector's and the proxy's are told apart.
          group_by_fields = ["resource.label.${conditions.value.label}", "metric.label.container_name"]
        }
      }
    }
  }

  documentation {
    content   = local.documentation["memory"]
    mime_type = "text/markdown"
  }

  alert_strategy {
    auto_close = "86400s"
  }
}

resource "google_monitoring_alert_policy" "jobs" {
  count = length(var.job_names) == 0 || contains(var.disabled_alerts, "jobs") ? 0 : 1

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
    content   = local.documentation["jobs"]
    mime_type = "text/markdown"
  }

  alert_strategy {
    auto_close = "86400s"
  }
}
