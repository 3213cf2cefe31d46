locals {
  # In the order of the page; a chart of Google's metrics is there without the collector.
  landfast_charts = [
    {
      title = "Freshness: publish to commit, s"
      lines = {
        "p50 {{table}}" = "histogram_quantile(0.5, sum by (le, table) (rate(landfast_freshness_seconds_bucket${local.own}[5m])))"
        "p99 {{table}}" = "histogram_quantile(0.99, sum by (le, table) (rate(landfast_freshness_seconds_bucket${local.own}[5m])))"
      }
    },
    {
      title = "Freshness: publish to BigQuery, s"
      lines = { "p99 {{table}}" = "histogram_quantile(0.99, sum by (le, table) (rate(landfast_visible_seconds_bucket${local.own}[5m])))", "unpublished {{table}}" = "max by (table) (landfast_unpublished_seconds${local.own})" }
    },
    {
      title = "Rows per second"
      lines = { "{{table}}" = "sum by (table) (rate(iceberg_records_written_total${local.own}[5m]))" }
    },
    {
      title = "Bytes per second"
      lines = { "{{table}}" = "sum by (table) (rate(iceberg_bytes_written_total${local.own}[5m]))" }
    },
    {
      title = "Commits per second"
      lines = { "{{table}}" = "sum by (table) (rate(iceberg_batches_committed_total${local.own}[5m]))" }
    },
    {
      title = "Commit, s"
      lines = { "p99 {{table}}" = "histogram_quantile(0.99, sum by (le, table) (rate(iceberg_commit_duration_seconds_bucket${local.own}[5m])))" }
    },
    {
      title = "Conflicts and unknown outcomes"
      lines = { "{{table}} {{kind}}" = "sum by (table, kind) (rate(landfast_commit_retries_total${local.own}[5m]))" }
    },
    {
      title = "Duplicates dropped"
      lines = { "{{table}} {{reason}}" = "sum by (table, reason) (rate(landfast_duplicates_total${local.own}[5m]))" }
    },
    {
      title = "Dead letters"
      lines = { "{{table}} {{reason}}" = "sum by (table, reason) (increase(landfast_dead_letters_total${local.own}[5m]))" }
    },
    {
      title = "Deliveries by outcome"
      lines = { "{{outcome}}" = "sum by (outcome) (rate(landfast_deliveries_total${local.own}[5m]))" }
    },
    {
      title = "Held requests"
      lines = { "{{instance}}" = "max by (instance) (landfast_held_requests${local.own})" }
    },
    {
      title = "Held bytes"
      lines = { "{{instance}}" = "max by (instance) (landfast_held_bytes${local.own})" }
    },
    {
      title = "Objects of landing buckets"
      lines = { "{{outcome}}" = "sum by (outcome) (rate(landfast_object_events_total${local.own}[5m]))" }
    },
  ]

  google_charts = [
    {
      title = "Oldest message, s"
      lines = { "{{subscription_id}}" = "max by (subscription_id) (pubsub_googleapis_com:subscription_oldest_unacked_message_age{monitored_resource=\"pubsub_subscription\",subscription_id=~\"${local.subscriptions}\"})" }
    },
    {
      title = "Messages that wait"
      lines = { "{{subscription_id}}" = "sum by (subscription_id) (pubsub_googleapis_com:subscription_num_undelivered_messages{monitored_resource=\"pubsub_subscription\",subscription_id=~\"${local.subscriptions}\"})" }
    },
    {
      title = "Answers per second"
      lines = { "{{service_name}} {{response_code}}" = "sum by (service_name, response_code) (rate(run_googleapis_com:request_count{monitored_resource=\"cloud_run_revision\",service_name=~\"${local.services}\"}[5m]))" }
    },
    {
      # With those that Cloud Run turned away by itself, which the chart of its answers has not.
      title = "Pushes per second, by what Pub/Sub met"
      lines = { "{{subscription_id}} {{response_class}}" = "sum by (subscription_id, response_class) (rate(${format(local.pushes, "")}[5m]))" }
    },
    {
      title = "Cost: instance-s/s"
      lines = { "{{service_name}}" = "sum by (service_name) (rate(run_googleapis_com:container_billable_instance_time{monitored_resource=\"cloud_run_revision\",service_name=~\"${local.services}\"}[5m]))" }
    },
    {
      title = "Cost: storage calls"
      lines = { "{{bucket_name}} {{method}}" = "sum by (bucket_name, method) (rate(storage_googleapis_com:api_request_count{monitored_resource=\"gcs_bucket\",bucket_name=~\"${join("|", var.bucket_names)}\"}[5m]))" }
    },
    {
      title = "Cost: log bytes/s"
      lines = { "{{resource_type}}" = "sum by (resource_type) (rate(logging_googleapis_com:billing_bytes_ingested[5m]))" }
    },
    {
      title = "Cost: Pub/Sub bytes/s"
      lines = { "{{subscription_id}}" = "sum by (subscription_id) (rate(pubsub_googleapis_com:subscription_byte_cost{monitored_resource=\"pubsub_subscription\",subscription_id=~\"${local.subscriptions}\"}[5m]))" }
    },
  ]

  charts = concat([for chart in local.landfast_charts : chart if var.landfast_metrics], local.google_charts)
}

resource "google_monitoring_dashboard" "this" {
  project = var.project_id
  dashboard_json = jsonencode({
    displayName = var.name
    mosaicLayout = {
      columns = 48
      tiles = [for i, chart in local.charts : {
        xPos   = (i % 2) * 24
        yPos   = floor(i / 2) * 16
        width  = 24
        height = 16
        widget = {
          title = chart.title
          xyChart = {
            dataSets = [for legend, query in chart.lines : {
              plotType        = "LINE"
              legendTemplate  = legend
              timeSeriesQuery = { prometheusQuery = query }
            }]
          }
        }
      }]
    }
  })
}
