locals {
  warehouse_bucket_name    = coalesce(var.warehouse_bucket_name, "${var.project_id}-${var.name}-warehouse")
  dead_letters_bucket_name = coalesce(var.dead_letters_bucket_name, "${var.project_id}-${var.name}-dead-letters")
  # Whatever is encrypted waits until its keeper may use the key.
  kms_key_name = var.kms_key_name == null ? null : distinct([for grant in google_kms_crypto_key_iam_member.agents : grant.crypto_key_id])[0]
  # Objects of these buckets are put away: a table that takes them says so, or all do by default.
  emptied_buckets = toset(concat(
    flatten([for table in values(var.tables) : [for one in try(table.from, []) : try(one.bucket, "")] if try(table.after, var.defaults.after, "keep") != "keep"]),
    [for route in var.routes : try(route.bucket, "") if try(var.defaults.after, "keep") != "keep"],
  ))
  # `maintain` and `verify` need neither landing buckets nor subscriptions, nor the token. In Cloud SQL the catalog's tables are their maker's alone.
  maintenance_account = contains(keys(local.accounts), "maintain") ? "maintain" : "service"
  landfast_members    = { for name in distinct(["service", local.maintenance_account]) : name => "serviceAccount:${google_service_account.this[name].email}" }

  secret_environment = merge(
    { for name, secret in var.secret_environment : name => { secret = google_secret_manager_secret_iam_member.environment[secret].secret_id } },
    { for name, secret in { API_TOKEN = var.api_token_secret } : name => { secret = google_secret_manager_secret_iam_member.environment[secret].secret_id } if secret != null },
  )
  cloud_sql_proxy = var.catalog_type != "sql" ? null : { instance_connection_name = var.cloud_sql.instance_connection_name, private_ip = var.cloud_sql.private_ip }
  metrics_collector = !local.collects_metrics ? null : {
    config_secret  = module.collector_config[0].secret_id
    config_version = module.collector_config[0].version
    token_secret   = google_secret_manager_secret_iam_member.environment[var.api_token_secret].secret_id
  }
}

module "warehouse" {
  source = "./modules/warehouse"

  project_id                    = local.project_id
  name                          = local.warehouse_bucket_name
  dead_letters_name             = local.dead_letters_bucket_name
  location                      = local.bucket_location
  soft_delete_retention_seconds = var.soft_delete_retention_seconds
  replayed_retention_days       = var.replayed_retention_days
  confirmed_retention_days      = var.confirmed_retention_days
  force_destroy                 = var.force_destroy
  kms_key_name                  = local.kms_key_name
  labels                        = var.labels
  object_users                  = local.landfast_members
}

module "catalog" {
  source = "./modules/catalog"
  count  = var.catalog_type == "biglake" ? 1 : 0

  project_id = local.project_id
  name       = var.catalog_name
  # Beside the folder of the ledgers, which is no namespace's.
  default_location = "gs://${module.warehouse.bucket}/tables"
  buckets          = [local.warehouse_bucket_name]
  credential_mode  = var.catalog_credential_mode
  deletion_policy  = var.force_destroy ? "DELETE" : "PREVENT"
  editors          = local.landfast_members
  viewers          = var.catalog_viewers
}

module "bigquery" {
  source = "./modules/bigquery"
  count  = local.publishes ? 1 : 0

  project_id                 = local.project_id
  dataset_id                 = var.bigquery.dataset_id
  connection_id              = var.bigquery.connection_id
  location                   = coalesce(var.bigquery.location, local.bucket_location)
  connection_location        = var.bigquery.connection_location
  warehouse_bucket           = module.warehouse.bucket
  warehouse_location         = local.bucket_location
  create_custom_role         = var.bigquery.create_custom_role
  delete_contents_on_destroy = var.force_destroy
  kms_key_name               = local.kms_key_name
  labels                     = var.labels
  publishers                 = local.landfast_members
  readers                    = var.bigquery.readers
}

resource "google_sql_database" "catalog" {
  count = var.catalog_type == "sql" ? 1 : 0

  project  = local.project_id
  instance = var.cloud_sql.instance_name
  name     = var.cloud_sql.database
  # The catalog is what names the tables: it stays when this goes.
  deletion_policy = "ABANDON"
}

resource "google_sql_user" "service" {
  count = var.catalog_type == "sql" ? 1 : 0

  project         = local.project_id
  instance        = var.cloud_sql.instance_name
  name            = trimsuffix(google_service_account.this["service"].email, ".gserviceaccount.com")
  type            = "CLOUD_IAM_SERVICE_ACCOUNT"
  deletion_policy = "ABANDON"
}

module "service" {
  source = "./modules/service"
  count  = length(local.push_topics) > 0 ? 1 : 0

  project_id                       = local.project_id
  name                             = var.name
  location                         = var.region
  image                            = var.image
  service_account_email            = google_service_account.this["service"].email
  config_secret                    = module.config["service"].secret_id
  config_version                   = module.config["service"].version
  cpu                              = var.service_cpu
  memory                           = var.service_memory
  cpu_idle                         = var.service_cpu_idle
  min_instance_count               = var.service_min_instance_count
  max_instance_count               = var.service_max_instance_count
  max_instance_request_concurrency = var.service_concurrency
  timeout_seconds                  = var.service_ack_deadline_seconds + 10
  ingress                          = var.service_ingress
  invokers                         = merge({ push = "serviceAccount:${google_service_account.this["push"].email}" }, var.service_invokers)
  environment                      = var.environment
  secret_environment               = local.secret_environment
  cloud_sql_proxy                  = local.cloud_sql_proxy
  metrics_collector                = local.metrics_collector
  vpc_access                       = var.vpc_access
  kms_key_name                     = local.kms_key_name
  labels                           = var.labels

  depends_on = [time_sleep.grants]
}

# Objects have a service of their own: a large file must not starve the requests that messages hold.
module "objects" {
  source = "./modules/service"
  count  = length(var.landings) > 0 ? 1 : 0

  project_id                       = local.project_id
  name                             = "${var.name}-objects"
  location                         = var.region
  image                            = var.image
  service_account_email            = google_service_account.this["service"].email
  config_secret                    = module.config["objects"].secret_id
  config_version                   = module.config["objects"].version
  cpu                              = var.objects_cpu
  memory                           = var.objects_memory
  max_instance_count               = var.objects_max_instance_count
  max_instance_request_concurrency = var.objects_concurrency
  timeout_seconds                  = 620
  invokers                         = { push = "serviceAccount:${google_service_account.this["push"].email}" }
  environment                      = var.environment
  secret_environment               = local.secret_environment
  cloud_sql_proxy                  = local.cloud_sql_proxy
  metrics_collector                = local.metrics_collector
  vpc_access                       = var.vpc_access
  kms_key_name                     = local.kms_key_name
  labels                           = var.labels

  depends_on = [time_sleep.grants]
}

module "topic" {
  source   = "./modules/topic"
  for_each = var.topics

  project_id                       = local.project_id
  project_number                   = local.project_number
  topic                            = coalesce(each.value.name, each.key)
  create_topic                     = each.value.create
  topic_labels                     = var.labels
  subscription_labels              = var.labels
  topic_message_retention_duration = each.value.topic_message_retention_duration
  kms_key_name                     = each.value.create ? local.kms_key_name : null
  publishers                       = each.value.publishers

  push_subscriptions = { for name in each.value.push ? ["${each.key}-push"] : [] : name => {
    push_endpoint              = each.value.paused ? null : "${module.service[0].service_uri}/"
    audience                   = module.service[0].service_uri
    oidc_service_account_email = google_service_account.this["push"].email
    filter                     = each.value.filter
    ack_deadline_seconds       = var.service_ack_deadline_seconds
    message_retention_duration = each.value.message_retention_duration
    dead_letter_policy         = each.value.dead_letter_policy
  } }

  pull_subscriptions = { for name in each.value.pull ? ["${each.key}-pull"] : [] : name => {
    subscribers                = { service = local.service_member }
    ack_deadline_seconds       = var.worker_ack_deadline_seconds
    filter                     = each.value.filter
    message_retention_duration = each.value.message_retention_duration
    dead_letter_policy         = each.value.dead_letter_policy
  } }

  # The first push wants a token that is signed.
  depends_on = [google_service_account_iam_member.pubsub_token_creator]
}

module "landing_topic" {
  source   = "./modules/topic"
  for_each = { for name, landing in var.landings : name => landing if landing.transport == "notification" }

  project_id          = local.project_id
  project_number      = local.project_number
  topic               = "${var.name}-${each.key}"
  topic_labels        = var.labels
  subscription_labels = var.labels
  kms_key_name        = local.kms_key_name

  push_subscriptions = { "${var.name}-${each.key}-push" = {
    push_endpoint              = "${module.objects[0].service_uri}/"
    audience                   = module.objects[0].service_uri
    oidc_service_account_email = google_service_account.this["push"].email
    # A large object is read, written and committed within it.
    ack_deadline_seconds = 600
  } }

  depends_on = [google_service_account_iam_member.pubsub_token_creator]
}

module "landing" {
  source   = "./modules/landing"
  for_each = var.landings

  project_id                    = local.project_id
  project_number                = local.project_number
  name                          = local.landing_names[each.key]
  location                      = coalesce(each.value.location, local.bucket_location)
  transport                     = each.value.transport
  topic                         = each.value.transport == "notification" ? module.landing_topic[each.key].id : null
  object_name_prefix            = each.value.object_name_prefix
  delete_after_days             = each.value.delete_after_days
  soft_delete_retention_seconds = var.soft_delete_retention_seconds
  force_destroy                 = var.force_destroy
  kms_key_name                  = local.kms_key_name
  labels                        = var.labels
  writers                       = each.value.writers
  readers                       = { for who, member in { service = local.service_member } : who => member if !contains(local.emptied_buckets, local.landing_names[each.key]) }
  movers                        = { for who, member in { service = local.service_member } : who => member if contains(local.emptied_buckets, local.landing_names[each.key]) }

  eventarc = each.value.transport != "eventarc" ? null : {
    service_account_email = google_service_account.this["push"].email
    service_name          = module.objects[0].service_name
    service_region        = var.region
  }

  depends_on = [google_service_account_iam_member.pubsub_token_creator]
}

module "worker" {
  source = "./modules/worker"
  count  = length(local.pull_topics) > 0 ? 1 : 0

  project_id            = local.project_id
  name                  = "${var.name}-worker"
  location              = var.region
  image                 = var.image
  service_account_email = google_service_account.this["service"].email
  config_secret         = module.config["worker"].secret_id
  config_version        = module.config["worker"].version
  cpu                   = var.worker_cpu
  memory                = var.worker_memory
  instance_count        = var.worker_instance_count
  subscriptions         = flatten([for name in keys(local.pull_topics) : module.topic[name].pull_subscription_paths])
  environment           = var.environment
  secret_environment    = local.secret_environment
  cloud_sql_proxy       = local.cloud_sql_proxy
  metrics_collector     = local.metrics_collector
  vpc_access            = var.vpc_access
  kms_key_name          = local.kms_key_name
  labels                = var.labels

  depends_on = [time_sleep.grants]
}

module "maintenance" {
  source = "./modules/maintenance"
  count  = local.maintains ? 1 : 0

  project_id                      = local.project_id
  name                            = var.name
  location                        = var.region
  image                           = var.image
  service_account_email           = google_service_account.this[local.maintenance_account].email
  scheduler_service_account_email = google_service_account.this["scheduler"].email
  scheduler_location              = var.scheduler_region
  config_secret                   = module.config["maintenance"].secret_id
  config_version                  = module.config["maintenance"].version
  schedule                        = var.maintenance_schedule
  verify_schedule                 = var.verify_schedule
  run                             = true
  cpu                             = var.maintenance_cpu
  memory                          = var.maintenance_memory
  time_zone                       = var.time_zone
  environment                     = var.environment
  secret_environment              = { for name, value in local.secret_environment : name => value if name != "API_TOKEN" }
  cloud_sql_proxy                 = local.cloud_sql_proxy
  vpc_access                      = var.vpc_access
  kms_key_name                    = local.kms_key_name
  labels                          = var.labels

  depends_on = [time_sleep.grants]
}

# What the service is allowed, probed as the service's account.
module "check" {
  source = "./modules/maintenance"
  count  = local.checked == null ? 0 : 1

  project_id            = local.project_id
  name                  = var.name
  location              = var.region
  image                 = var.image
  service_account_email = google_service_account.this["service"].email
  config_secret         = module.config[local.checked].secret_id
  config_version        = module.config[local.checked].version
  schedule              = null
  check                 = true
  cpu                   = "1"
  memory                = "1Gi"
  timeout_seconds       = 1800
  environment           = var.environment
  secret_environment    = local.secret_environment
  cloud_sql_proxy       = local.cloud_sql_proxy
  vpc_access            = var.vpc_access
  kms_key_name          = local.kms_key_name
  labels                = var.labels

  depends_on = [time_sleep.grants]
}

module "monitoring" {
  source = "./modules/monitoring"
  count  = var.create_monitoring ? 1 : 0

  project_id            = local.project_id
  name                  = var.name
  notification_channels = var.notification_channels
  disabled_alerts       = var.disabled_alerts
  runbook_url           = var.runbook_url
  landfast_metrics      = local.collects_metrics
  subscription_names    = sort(concat(local.made_subscriptions, [for name in keys(module.landing_topic) : "${var.name}-${name}-push"]))
  paused_subscriptions  = local.paused_subscriptions
  subscription_patterns = compact([for landing in module.landing : landing.eventarc_subscription_pattern])
  metrics_namespace     = var.name
  worker_pool_names     = module.worker[*].worker_pool_name
  service_names         = concat(module.service[*].service_name, module.objects[*].service_name)
  job_names             = flatten([for maintenance in module.maintenance : [for command, name in maintenance.job_names : name if command != "run"]])
  bucket_names          = concat([module.warehouse.bucket, module.warehouse.dead_letters_bucket], [for landing in module.landing : landing.bucket])
  labels                = var.labels
}
