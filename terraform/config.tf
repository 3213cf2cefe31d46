# landfast's configuration, one file for each process: they differ in `server`.
locals {
  publishes       = var.bigquery != null
  bucket_location = coalesce(var.bucket_location, var.region)
  push_topics     = { for name, topic in var.topics : name => topic if topic.push }
  pull_topics     = { for name, topic in var.topics : name => topic if topic.pull }
  # A message counts once, however it came.
  sources = merge(
    { for name, topic in var.topics : name => { subscriptions = ["${name}-push", "${name}-pull"] } if topic.push && topic.pull },
    # No `from` names the subscription of a bucket's notifications, and it is pushed, so it needs no source.
    var.sources,
  )
  tables = { for name, table in var.tables : name => merge({ for key, value in { publish = { bigquery = {} } } : key => value if local.publishes }, table) }
  # What is said in `defaults` goes beside what is made here, key by key, and before it.
  defaults = merge(
    { for key, value in var.defaults : key => value if !contains(["ledger", "publish"], key) },
    { ledger = merge({ retention = "${var.ledger_retention_days}d" }, try(var.defaults.ledger, {})) },
    { for key, value in { publish = { bigquery = merge(
      { project = var.project_id, dataset = one(module.bigquery[*].dataset_id), connection = one(module.bigquery[*].connection) },
      try(var.defaults.publish.bigquery, {}),
    ) } } : key => value if local.publishes },
    { for key, value in { publish = try(var.defaults.publish, null) } : key => value if value != null && !local.publishes },
  )
  sql_user = "${var.name}-service@${var.project_id}.iam"
  catalog = merge(
    { type = var.catalog_type },
    var.catalog_type != "biglake" ? {} : { warehouse = one(module.catalog[*].warehouse), user_project = var.project_id },
    var.catalog_type != "sql" ? {} : {
      # No password: the proxy logs in with the account's token.
      uri  = "postgresql://${urlencode(local.sql_user)}@localhost/${var.cloud_sql.database}?host=/cloudsql/${var.cloud_sql.instance_connection_name}"
      name = var.catalog_name
    },
  )
  dead_letters = {
    location = module.warehouse.dead_letters
    topic    = { topic = var.dead_letters_topic, before = module.warehouse.dead_letters }
  }
  base = {
    for key, value in {
      warehouse    = module.warehouse.warehouse
      catalog      = local.catalog
      dead_letters = local.dead_letters[var.dead_letters_topic == null ? "location" : "topic"]
      sources      = local.sources
      defaults     = local.defaults
      tables       = local.tables
      routes       = var.routes
    } : key => value if try(length(value) > 0, true)
  }
  api_auth = var.api_token_secret == null ? {} : { api_auth = { bearer = "$${API_TOKEN}" } }

  # What landfast takes by itself where it sees its container's limit. Said here, since nobody has looked whether Cloud Run shows it.
  quarters = { for process, memory in { service = var.service_memory, objects = var.objects_memory, worker = var.worker_memory } :
    process => "${floor(tonumber(trimsuffix(trimsuffix(memory, "Gi"), "Mi")) * (endswith(memory, "Gi") ? 1024 : 1) / 4)}MiB"
  }

  servers = {
    service = {
      ack_deadline           = "${var.service_ack_deadline_seconds}s"
      max_in_flight_requests = var.service_concurrency
      max_in_flight_bytes    = coalesce(var.service_max_in_flight_bytes, local.quarters.service)
      cpu_idle               = var.service_cpu_idle
      status_page            = var.status_page
    }
    objects = {
      ack_deadline           = "600s"
      max_in_flight_requests = var.objects_concurrency
      max_in_flight_bytes    = local.quarters.objects
      cpu_idle               = false
    }
    worker = {
      ack_deadline           = "${var.worker_ack_deadline_seconds}s"
      max_in_flight_requests = var.worker_max_in_flight_requests
      max_in_flight_bytes    = coalesce(var.worker_max_in_flight_bytes, local.quarters.worker)
      cpu_idle               = false
    }
    # Nothing comes there; whatever commit_interval the tables have is held against it.
    maintenance = { ack_deadline = "600s" }
  }
  processes = toset(concat(
    length(local.push_topics) > 0 ? ["service"] : [],
    length(var.landings) > 0 ? ["objects"] : [],
    length(local.pull_topics) > 0 ? ["worker"] : [],
    local.maintains ? ["maintenance"] : [],
  ))
  maintains = var.maintenance_schedule != null || var.verify_schedule != null
  # `landfast check` probes with the configuration of the first that is there.
  checked = try([for process in ["service", "objects", "worker"] : process if contains(local.processes, process)][0], null)
  config_files = {
    for process in local.processes : process => yamlencode(merge(local.base, {
      # Cloud Run's IAM checks the tokens and takes their signatures off, so that landfast could not check them again.
      server = merge({ push_auth = "off" }, local.servers[process], process == "maintenance" ? {} : local.api_auth)
    }))
  }

  collects_metrics = var.api_token_secret != null && var.collect_metrics
  # As Google's own Prometheus sidecar does it, but with the token, which that one cannot send.
  collector_file = yamlencode({
    receivers = { prometheus = { config = { scrape_configs = [{
      job_name        = "landfast"
      scrape_interval = "30s"
      authorization   = { type = "Bearer", credentials_file = "/etc/landfast-token/token" }
      static_configs  = [{ targets = ["127.0.0.1:8080"] }]
    }] } } }
    processors = {
      resourcedetection = { detectors = ["gcp", "env"], timeout = "10s" }
      # Every instance listens on the same address: told apart by Cloud Run's name for it, or their counters would be one.
      transform = { metric_statements = [{ context = "resource", statements = [
        "set(attributes[\"service.instance.id\"], attributes[\"faas.instance\"]) where attributes[\"faas.instance\"] != nil",
        "set(attributes[\"cluster\"], \"__run__\")",
        "set(attributes[\"namespace\"], \"${var.name}\")",
      ] }] }
    }
    # The names stay as docs/metrics.md has them.
    exporters = { googlemanagedprometheus = { metric = { add_metric_suffixes = false } } }
    service   = { pipelines = { metrics = { receivers = ["prometheus"], processors = ["resourcedetection", "transform"], exporters = ["googlemanagedprometheus"] } } }
  })
}

module "config" {
  source   = "./modules/config"
  for_each = local.processes

  project_id   = local.project_id
  secret_id    = "${var.name}-${each.value}-config"
  content      = local.config_files[each.value]
  accessors    = each.value == "maintenance" ? { (local.maintenance_account) = local.landfast_members[local.maintenance_account] } : { service = local.service_member }
  location     = var.region
  kms_key_name = local.kms_key_name
  labels       = var.labels
}

module "collector_config" {
  source = "./modules/config"
  count  = local.collects_metrics ? 1 : 0

  project_id   = local.project_id
  secret_id    = "${var.name}-collector-config"
  content      = local.collector_file
  accessors    = { service = local.service_member }
  location     = var.region
  kms_key_name = local.kms_key_name
  labels       = var.labels
}

# What Terraform can know of things that do not go together; `landfast check` finds the rest.
locals {
  conditions = flatten([for table in values(var.tables) : try(table.from, [])])
  named      = concat(local.conditions, var.routes)
  # Nobody is woken for what waits on purpose.
  paused_subscriptions = concat([for name, topic in local.push_topics : "${name}-push" if topic.paused], [for name in keys(local.pull_topics) : "${name}-pull" if var.worker_instance_count == 0])
  made_subscriptions   = concat([for name in keys(local.push_topics) : "${name}-push"], [for name in keys(local.pull_topics) : "${name}-pull"])
  landing_names        = { for name, landing in var.landings : name => coalesce(landing.bucket_name, "${var.project_id}-${name}") }
  missing_subscriptions = distinct([
    for one in local.named : one.subscription if try(one.subscription, null) != null && !strcontains(try(one.subscription, "/"), "/") && !contains(local.made_subscriptions, try(one.subscription, ""))
  ])
  missing_buckets = distinct([
    for one in local.named : one.bucket if try(one.bucket, null) != null && !contains(values(local.landing_names), try(one.bucket, ""))
  ])
  bucket_names      = concat(values(local.landing_names), [local.warehouse_bucket_name, local.dead_letters_bucket_name])
  all_subscriptions = concat(local.made_subscriptions, [for name, landing in var.landings : "${var.name}-${name}-push" if landing.transport == "notification"])
  # In seconds, by where it is said; a precondition holds them against the deadlines.
  commit_intervals = { for place, batch in merge({ defaults = try(var.defaults.batch, {}) }, { for name, table in var.tables : name => try(table.batch, {}) }) :
    place => try(tonumber(regex("^([0-9]+)(?:ms|s|m|h)$", batch.commit_interval)[0]) * { ms = 0.001, s = 1, m = 60, h = 3600 }[regex("^[0-9]+(ms|s|m|h)$", batch.commit_interval)[0]], 0)
  }
  shortest_deadline = min(600, concat(length(local.push_topics) > 0 ? [var.service_ack_deadline_seconds] : [], length(local.pull_topics) > 0 ? [var.worker_ack_deadline_seconds] : [])...)
  slow_places       = [for place, seconds in local.commit_intervals : place if seconds > local.shortest_deadline / 2]
  forgetful_tables  = [for name, table in var.tables : name if try(tonumber(regex("^([0-9]+)d$", table.ledger.retention)[0]) < var.ledger_retention_days, false)]
  retentions = [for topic in values(var.topics) : max(
    tonumber(trimsuffix(topic.message_retention_duration, "s")),
    tonumber(trimsuffix(coalesce(topic.topic_message_retention_duration, "0s"), "s")),
  )]
}

resource "terraform_data" "preconditions" {
  lifecycle {
    precondition {
      condition     = length(local.missing_subscriptions) == 0
      error_message = "Tables or routes take messages from ${join(", ", local.missing_subscriptions)}, which no topic has: a topic T has the subscriptions T-push and T-pull (${join(", ", local.made_subscriptions)}). Name subscriptions of others in full."
    }
    precondition {
      condition     = length(local.missing_buckets) == 0
      error_message = "Tables or routes take objects of ${join(", ", local.missing_buckets)}, which are no landing buckets: those are ${join(", ", values(local.landing_names))}."
    }
    precondition {
      condition     = alltrue([for seconds in local.retentions : seconds + 86400 <= var.ledger_retention_days * 86400])
      error_message = "A subscription or topic keeps messages for ${floor(max(0, local.retentions...) / 86400)} days, and the tables remember them for ${var.ledger_retention_days}: ledger_retention_days must be a day more, or a late copy is a dead letter."
    }
    precondition {
      condition     = length(local.slow_places) == 0
      error_message = "batch.commit_interval of ${join(", ", local.slow_places)} is more than half of the acknowledgement deadline, ${local.shortest_deadline} s, so messages would come again while they wait: a shorter one, or service_ack_deadline_seconds and worker_ack_deadline_seconds."
    }
    precondition {
      condition     = length(local.forgetful_tables) == 0
      error_message = "${join(", ", local.forgetful_tables)}: ledger.retention is shorter than ledger_retention_days, which is what subscriptions are held against."
    }
    precondition {
      condition     = length(distinct(local.bucket_names)) == length(local.bucket_names) && alltrue([for name in local.bucket_names : length(name) <= 63])
      error_message = "Buckets would be called ${join(", ", local.bucket_names)}: each wants a name of its own, of 63 characters at most, and neither warehouse nor dead letters can be a landing bucket. Say bucket_name, warehouse_bucket_name or dead_letters_bucket_name."
    }
    precondition {
      condition     = length(distinct(local.all_subscriptions)) == length(local.all_subscriptions)
      error_message = "Subscriptions would be called ${join(", ", local.all_subscriptions)}: a topic T makes T-push and T-pull, a landing L ${var.name}-L-push. Choose other keys."
    }
    precondition {
      condition     = var.kms_key_name == null || alltrue([for landing in values(var.landings) : lower(coalesce(landing.location, var.region)) == var.region])
      error_message = "A landing bucket elsewhere than the key cannot be encrypted with it."
    }
    precondition {
      condition     = var.catalog_type != "biglake" || alltrue([for name in keys(var.tables) : can(regex("^[A-Za-z0-9_]+\\.[A-Za-z0-9_-]+$", name))])
      error_message = "In BigLake a table is called NAMESPACE.TABLE: one level of namespace, of letters, digits and underscores."
    }
    precondition {
      condition     = length(var.topics) + length(var.landings) > 0
      error_message = "Nothing would be ingested: give topics or landings."
    }
  }
}

check "bucket_is_near" {
  assert {
    condition     = lower(local.bucket_location) == var.region || !can(regex("^[a-z]+-[a-z]+[0-9]+$", lower(local.bucket_location)))
    error_message = "The buckets are in ${local.bucket_location} and landfast runs in ${var.region}: each commit waits for that way, and pays for it."
  }
}
