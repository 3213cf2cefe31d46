# What and where

variable "project_id" {
  type        = string
  description = "The project of everything here. It exists, and has billing."
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project_id))
    error_message = "A project id has 6 to 30 lower-case letters, digits and hyphens, and begins with a letter."
  }
}

variable "region" {
  type        = string
  description = "Where landfast runs, such as europe-west1."
  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "A region is called as europe-west1 is."
  }
}

variable "name" {
  type        = string
  description = "What things are called, and how their names begin."
  default     = "landfast"
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}[a-z0-9]$", var.name))
    error_message = "3 to 20 lower-case letters, digits and hyphens, beginning with a letter: an account's name has 30 at most."
  }
}

variable "image" {
  type        = string
  description = "The image of landfast, best by its digest: REGION-docker.pkg.dev/P/R/landfast@sha256:…"
  validation {
    condition     = can(regex("^[a-z0-9.:-]+/.+[:@].+$", var.image)) && !endswith(var.image, ":latest")
    error_message = "An image has a host, a path, and a tag or digest other than latest, which would change under a revision."
  }
}

variable "labels" {
  type        = map(string)
  description = "Labels of what is made."
  default     = {}
  validation {
    condition     = alltrue([for key in keys(var.labels) : can(regex("^[a-z][a-z0-9_-]{0,62}$", key))])
    error_message = "A label key has up to 63 lower-case letters, digits, hyphens and underscores, and begins with a letter."
  }
}

variable "activate_apis" {
  type        = bool
  description = "Whether the APIs are turned on that are called. False where somebody else does that."
  default     = true
  nullable    = false
  validation {
    condition     = contains([true, false], var.activate_apis)
    error_message = "true or false."
  }
}

variable "api_propagation_duration" {
  type        = string
  description = "How long to wait once APIs were turned on: before that calls are refused now and then."
  default     = "60s"
  validation {
    condition     = can(regex("^[0-9]+(s|m)$", var.api_propagation_duration))
    error_message = "A duration such as 60s."
  }
}

variable "grant_propagation_duration" {
  type        = string
  description = "How long to wait for new grants to go round before what needs them starts. Google says two minutes typically, sometimes seven or more."
  default     = "120s"
  validation {
    condition     = can(regex("^[0-9]+(s|m)$", var.grant_propagation_duration))
    error_message = "A duration such as 120s."
  }
}

# What is ingested

variable "topics" {
  type = map(object({
    name                             = optional(string)
    create                           = optional(bool, true)
    push                             = optional(bool, true)
    pull                             = optional(bool, false)
    paused                           = optional(bool, false)
    filter                           = optional(string)
    message_retention_duration       = optional(string, "604800s")
    topic_message_retention_duration = optional(string)
    dead_letter_policy = optional(object({
      topic                 = string
      max_delivery_attempts = optional(number, 100)
    }))
    publishers = optional(map(string), {})
  }))
  description = <<-EOT
    Topics by a name T of yours: the topic is called T unless name says otherwise, its subscriptions T-push and T-pull, as a table's `from` says them.
    create: false takes a topic that is there. push: to the service. pull: by a worker, the step up from about 1,000 messages/s; with both, a message counts once.
    paused: the push subscription has no endpoint, so that messages wait in it (message_retention_duration long) until this is false.
    dead_letter_policy (off): Pub/Sub's own, with the topic that it forwards to, projects/P/topics/T, as text. In an outage it would drain the subscription, and what it forwards has a new id. landfast keeps dead letters of its own, whatever this says.
  EOT
  default     = {}
  validation {
    condition     = alltrue([for topic in values(var.topics) : topic.push || topic.pull])
    error_message = "A topic is pushed, pulled, or both."
  }
  validation {
    condition     = alltrue([for topic in values(var.topics) : topic.push || !topic.paused])
    error_message = "What is pushed can be paused. What is pulled waits while there is no worker: worker_instance_count = 0."
  }
  validation {
    condition = alltrue(flatten([for topic in values(var.topics) : [for duration in [topic.message_retention_duration, coalesce(topic.topic_message_retention_duration, "600s")] :
      try(tonumber(trimsuffix(duration, "s")) >= 600 && tonumber(trimsuffix(duration, "s")) <= 2678400, false)
    ]]))
    error_message = "Messages are kept for 600s to 2678400s (31 days)."
  }
  validation {
    condition     = alltrue([for topic in values(var.topics) : topic.dead_letter_policy == null || try(can(regex("^projects/[^/]+/topics/[^/]+$", topic.dead_letter_policy.topic)) && topic.dead_letter_policy.max_delivery_attempts >= 5 && topic.dead_letter_policy.max_delivery_attempts <= 100, false)])
    error_message = "A dead-letter policy names its topic in full, projects/P/topics/T, and Pub/Sub takes 5 to 100 delivery attempts."
  }
}

variable "landings" {
  type = map(object({
    bucket_name        = optional(string)
    location           = optional(string)
    transport          = optional(string, "notification")
    object_name_prefix = optional(string)
    delete_after_days  = optional(number)
    writers            = optional(map(string), {})
  }))
  description = <<-EOT
    Landing buckets by a name L of yours: the bucket is called PROJECT-L unless bucket_name says otherwise. They get a service of their own.
    transport: notification, by a topic and a subscription with the deadline that objects want; or eventarc.
  EOT
  default     = {}
  validation {
    condition     = alltrue([for landing in values(var.landings) : contains(["notification", "eventarc"], landing.transport)])
    error_message = "The transport is notification or eventarc."
  }
}

variable "tables" {
  type        = any
  description = "The configuration's `tables`, as docs/configuration.md has them: which events go to which table, columns, partitions."
  default     = {}
  validation {
    condition     = can(keys(var.tables)) && alltrue([for name in try(keys(var.tables), []) : can(regex("^[A-Za-z0-9_-]+(\\.[A-Za-z0-9_-]+)+$", name))])
    error_message = "Tables by their names: at least two levels of letters, digits, hyphens and underscores, separated by dots."
  }
}

variable "defaults" {
  type        = any
  description = "The configuration's `defaults`: keys for every table. `ledger` and `publish.bigquery` are completed by what is made here, other keys are taken as they are."
  default     = {}
  validation {
    condition     = can(keys(var.defaults))
    error_message = "Keys and values."
  }
  validation {
    condition     = !can(var.defaults.ledger.retention)
    error_message = "Say ledger_retention_days, which is held against what subscriptions keep."
  }
}

variable "routes" {
  type        = any
  description = "The configuration's `routes`: tables named by messages or folders."
  default     = []
  validation {
    condition     = alltrue([for route in var.routes : can(route.table)])
    error_message = "A route names a table."
  }
}

variable "sources" {
  type        = any
  description = "The configuration's `sources`, added to those of topics that are both pushed and pulled."
  default     = {}
  validation {
    condition     = alltrue([for source in values(var.sources) : can(source.subscriptions)])
    error_message = "A source names its subscriptions."
  }
}

variable "ledger_retention_days" {
  type        = number
  description = "Days that tables remember messages: a day more than any subscription or topic keeps them."
  default     = 8
  validation {
    condition     = var.ledger_retention_days >= 1 && var.ledger_retention_days <= 400
    error_message = "1 to 400."
  }
}

# Where it lies

variable "bucket_location" {
  type        = string
  description = "Where the buckets are: a region, or EU, US, ASIA. Null: in region. BigQuery reads only what is where its dataset is."
  default     = null
  validation {
    condition     = var.bucket_location == null || can(regex("^([a-zA-Z]+-[a-zA-Z]+[0-9]+|[a-zA-Z]{2,4}[0-9]?)$", var.bucket_location))
    error_message = "A location is a region such as europe-west1, a dual region such as eur4, or EU, US, ASIA."
  }
}

variable "warehouse_bucket_name" {
  type        = string
  description = "The warehouse bucket's name, unique in the world. Null: PROJECT-NAME-warehouse."
  default     = null
  validation {
    condition     = var.warehouse_bucket_name == null || try(can(regex("^[a-z0-9][a-z0-9_.-]{1,61}[a-z0-9]$", var.warehouse_bucket_name)) && !startswith(var.warehouse_bucket_name, "goog") && !can(regex("g[o0][o0]g[l1]e|[.][.]|[.]-|-[.]|^[0-9]+[.][0-9]+[.][0-9]+[.][0-9]+$", var.warehouse_bucket_name)), false)
    error_message = "A bucket's name has 3 to 63 lower-case letters, digits, hyphens, underscores and dots, begins and ends with a letter or digit, is no IP address, has no dot beside a dot or hyphen, and does not say google."
  }
}

variable "dead_letters_bucket_name" {
  type        = string
  description = "The name of the dead letters' bucket. Null: PROJECT-NAME-dead-letters."
  default     = null
  validation {
    condition     = var.dead_letters_bucket_name == null || try(can(regex("^[a-z0-9][a-z0-9_.-]{1,61}[a-z0-9]$", var.dead_letters_bucket_name)) && !startswith(var.dead_letters_bucket_name, "goog") && !can(regex("g[o0][o0]g[l1]e|[.][.]|[.]-|-[.]|^[0-9]+[.][0-9]+[.][0-9]+[.][0-9]+$", var.dead_letters_bucket_name)), false)
    error_message = "A bucket's name has 3 to 63 lower-case letters, digits, hyphens, underscores and dots, begins and ends with a letter or digit, is no IP address, has no dot beside a dot or hyphen, and does not say google."
  }
}

variable "dead_letters_topic" {
  type        = string
  description = "A topic, projects/P/topics/T, there already and with a subscription, that landfast publishes dead letters to, instead of keeping them in their bucket. `landfast replay` does not read it (docs/dead-letters.md). Null: the bucket."
  default     = null
  validation {
    condition     = var.dead_letters_topic == null || can(regex("^projects/[^/]+/topics/[^/]+$", var.dead_letters_topic))
    error_message = "A topic is named in full, projects/P/topics/T."
  }
}

variable "soft_delete_retention_seconds" {
  type        = number
  description = "How long deleted objects can be brought back, 7 days (604800) to 90 days; 0: not at all. They are paid for meanwhile: what `maintain` deletes of a busy table is much."
  default     = 604800
  validation {
    condition     = var.soft_delete_retention_seconds == 0 || (var.soft_delete_retention_seconds >= 604800 && var.soft_delete_retention_seconds <= 7776000)
    error_message = "Cloud Storage takes 0, or 604800 (7 days) to 7776000 (90 days)."
  }
}

variable "replayed_retention_days" {
  type        = number
  description = "Days until letters that were replayed are deleted: more than ledger_retention_days, as long as a delivery may come again."
  default     = 32
  validation {
    condition     = var.replayed_retention_days > var.ledger_retention_days
    error_message = "Tables remember a delivery for ledger_retention_days, and as long a copy may come: keep its letters for a day more at least."
  }
}

variable "confirmed_retention_days" {
  type        = number
  description = "Days until dead letters are deleted that nobody replayed. Null: never."
  default     = null
  validation {
    condition     = var.confirmed_retention_days == null || try(var.confirmed_retention_days > var.ledger_retention_days, false)
    error_message = "Tables remember a delivery for ledger_retention_days, and as long a copy may come: keep its letters for a day more at least."
  }
}

variable "force_destroy" {
  type        = bool
  description = "Whether `terraform destroy` deletes buckets, catalog and dataset with all that is in them. For trials."
  default     = false
  nullable    = false
  validation {
    condition     = contains([true, false], var.force_destroy)
    error_message = "true or false."
  }
}

# Who names the tables

variable "catalog_type" {
  type        = string
  description = "The catalog. biglake: Google's Iceberg REST catalog, which BigQuery and Spark read by themselves; storage: metadata files in the warehouse, with landfast as the only writer; sql: a database in Cloud SQL for PostgreSQL. With the latter two, bigquery makes external tables."
  default     = "biglake"
  validation {
    condition     = contains(["biglake", "storage", "sql"], var.catalog_type)
    error_message = "The catalog is biglake, storage or sql."
  }
}

variable "catalog_name" {
  type        = string
  description = "The catalog's name: with biglake the second part of a table's name in BigQuery, with sql what other engines must call it."
  default     = "lake"
  validation {
    condition     = can(regex("^[a-z][a-z0-9_-]{1,62}$", var.catalog_name))
    error_message = "A catalog's name has 2 to 63 lower-case letters, digits, hyphens and underscores, and begins with a letter."
  }
}

variable "catalog_credential_mode" {
  type        = string
  description = "Who opens the tables' files: CREDENTIAL_MODE_END_USER, each with credentials of its own; or CREDENTIAL_MODE_VENDED_CREDENTIALS, with short-lived ones of the catalog's account, so that readers need no role on the bucket."
  default     = "CREDENTIAL_MODE_END_USER"
  validation {
    condition     = contains(["CREDENTIAL_MODE_END_USER", "CREDENTIAL_MODE_VENDED_CREDENTIALS"], var.catalog_credential_mode)
    error_message = "The mode is CREDENTIAL_MODE_END_USER or CREDENTIAL_MODE_VENDED_CREDENTIALS."
  }
}

variable "catalog_viewers" {
  type        = map(string)
  description = "With biglake: who reads tables through the catalog, such as a group of analysts: IAM members, by a name of your own."
  default     = {}
  validation {
    condition     = !anytrue([for member in values(var.catalog_viewers) : contains(["allUsers", "allAuthenticatedUsers"], member)])
    error_message = "Nothing here is for everyone."
  }
}

variable "cloud_sql" {
  type = object({
    instance_name            = string
    instance_connection_name = string
    database                 = optional(string, "iceberg")
    private_ip               = optional(bool, false)
  })
  description = "With sql: an instance of PostgreSQL that is there, in the project, with the flag cloudsql.iam_authentication=on. The database and the account's login are made; `GRANT CREATE ON SCHEMA public` to it is yours (README)."
  default     = null
  validation {
    condition     = var.cloud_sql == null || try(join("/", regex("^(.+):[a-z]+-[a-z]+[0-9]+:([^:]+)$", var.cloud_sql.instance_connection_name)) == "${var.project_id}/${var.cloud_sql.instance_name}", false)
    error_message = "The connection name is PROJECT:REGION:INSTANCE, of this project and instance."
  }
  validation {
    condition     = (var.catalog_type == "sql") == (var.cloud_sql != null)
    error_message = "cloud_sql goes with catalog_type = \"sql\", and only with it."
  }
}

variable "bigquery" {
  type = object({
    dataset_id          = string
    connection_id       = optional(string, "landfast")
    location            = optional(string)
    connection_location = optional(string)
    create_custom_role  = optional(bool, true)
    readers             = optional(map(string), {})
  })
  description = "With storage and sql: external tables in this dataset, which follow the tables. Dataset, connection and bucket must be in one location. The tables themselves are landfast's to make and move."
  default     = null
  validation {
    condition     = var.bigquery == null || var.catalog_type != "biglake"
    error_message = "BigQuery reads the tables of a BigLake catalog by itself: external tables are for the other catalogs."
  }
  validation {
    condition     = var.bigquery == null || alltrue([for one in [try(var.bigquery.location, null), try(var.bigquery.connection_location, null)] : one == null || lower(coalesce(one, "-")) == lower(coalesce(var.bucket_location, var.region))])
    error_message = "Dataset, connection and bucket must be in one location: BigQuery reads Iceberg files only where the dataset is."
  }
}

# The service that takes messages

variable "service_cpu" {
  type        = string
  description = "vCPUs. One carries some 2,600 messages/s of one table (simulated); commits to one table do not run in parallel."
  default     = "1"
  validation {
    condition     = contains(["1", "2", "4", "6", "8"], var.service_cpu)
    error_message = "1, 2, 4, 6 or 8 CPUs: less than one takes one request at a time."
  }
}

variable "service_memory" {
  type        = string
  description = "Memory: a quarter for held payload, twice that to decode and encode it, and a quarter for the process and what it remembers of ledgers."
  default     = "1Gi"
  validation {
    condition = try(
      tonumber(regex("^([0-9]+)(?:Mi|Gi)$", var.service_memory)[0]) * (endswith(var.service_memory, "Gi") ? 1024 : 1) >= { "1" = 512, "2" = 512, "4" = 2048, "6" = 4096, "8" = 4096 }[var.service_cpu] &&
      tonumber(regex("^([0-9]+)(?:Mi|Gi)$", var.service_memory)[0]) * (endswith(var.service_memory, "Gi") ? 1024 : 1) <= { "1" = 4096, "2" = 8192, "4" = 16384, "6" = 24576, "8" = 32768 }[var.service_cpu], false
    )
    error_message = "A size such as 1Gi that Cloud Run gives with so many vCPUs: 512Mi to 4Gi with 1, to 8Gi with 2, 2Gi to 16Gi with 4, 4Gi to 24Gi with 6, 4Gi to 32Gi with 8."
  }
}

variable "service_cpu_idle" {
  type        = bool
  description = "Whether CPU is given, and billed, only while requests are open. Cheaper under about 1.5 messages/s; above, and with collect_metrics, false."
  default     = false
  nullable    = false
  validation {
    condition     = contains([true, false], var.service_cpu_idle)
    error_message = "true or false."
  }
}

variable "service_min_instance_count" {
  type        = number
  description = "Instances that are always there. 0 scales to zero; 1 if a cold start is too long for the first message."
  default     = 0
  validation {
    condition     = var.service_min_instance_count >= 0 && var.service_min_instance_count <= 100
    error_message = "0 to 100."
  }
}

variable "service_max_instance_count" {
  type        = number
  description = "Instances at most. Only one commit of a table can win at a time: from four instances on each one more loses. 2 or 3 for CPU only."
  default     = 1
  validation {
    condition     = var.service_max_instance_count >= 1 && var.service_max_instance_count <= 100
    error_message = "1 to 100."
  }
}

variable "service_concurrency" {
  type        = number
  description = "Requests that an instance holds, each until its commit is durable: they are the throughput. 80 gives 285 messages/s, 250 gives 880, 1000 gives 2,600 (simulated)."
  default     = 1000
  validation {
    condition     = var.service_concurrency >= 1 && var.service_concurrency <= 1000
    error_message = "1 to 1000."
  }
}

variable "service_ack_deadline_seconds" {
  type        = number
  description = "The pushed subscriptions' acknowledgement deadline, at least twice the longest commit_interval. Pub/Sub's default of 10 is shorter than Cloud Run's queue and a retry."
  default     = 60
  validation {
    condition     = var.service_ack_deadline_seconds >= 20 && var.service_ack_deadline_seconds <= 600
    error_message = "20 to 600: Pub/Sub takes 10, but landfast keeps 10 s of it to answer."
  }
}

variable "service_max_in_flight_bytes" {
  type        = string
  description = "Payload that an instance holds, such as 256MiB; past it 429. 1,000 messages of 10 MB would be 10 GB, so bytes are counted. Null: a quarter of service_memory."
  default     = null
  validation {
    condition     = var.service_max_in_flight_bytes == null || can(regex("^[0-9]+(KiB|MiB|GiB|KB|MB|GB)$", var.service_max_in_flight_bytes))
    error_message = "A size such as 256MiB."
  }
}

variable "service_ingress" {
  type        = string
  description = "From where requests are let in. Pub/Sub and Eventarc of the same project (or perimeter) count as internal. INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER or INGRESS_TRAFFIC_ALL for rows that others send."
  default     = "INGRESS_TRAFFIC_INTERNAL_ONLY"
  validation {
    condition     = contains(["INGRESS_TRAFFIC_INTERNAL_ONLY", "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER", "INGRESS_TRAFFIC_ALL"], var.service_ingress)
    error_message = "INGRESS_TRAFFIC_INTERNAL_ONLY, INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER or INGRESS_TRAFFIC_ALL."
  }
}

variable "status_page" {
  type        = string
  description = "Who may see the status page of the service that takes messages. protected: whoever has the token of api_token_secret, besides being let in by Cloud Run; open: whoever Cloud Run lets in; off: nobody. The output status_page_command shows it."
  default     = "protected"
  validation {
    condition     = contains(["protected", "open", "off"], var.status_page)
    error_message = "protected, open or off."
  }
}

variable "service_invokers" {
  type        = map(string)
  description = "Who else may call the service, such as an application that sends rows: IAM members, by a name of your own. IAM knows no paths: they may push messages under any name, too, as Pub/Sub does."
  default     = {}
  validation {
    condition     = !anytrue([for member in values(var.service_invokers) : contains(["allUsers", "allAuthenticatedUsers"], member)])
    error_message = "Nothing here is for everyone."
  }
}

# The service that takes objects

variable "objects_cpu" {
  type        = string
  description = "vCPUs: two, since objects are decoded and encoded beside each other."
  default     = "2"
  validation {
    condition     = contains(["1", "2", "4", "6", "8"], var.objects_cpu)
    error_message = "1, 2, 4, 6 or 8 CPUs: less than one takes one request at a time."
  }
}

variable "objects_memory" {
  type        = string
  description = "Memory for four objects at a time. A quarter is for what is held of them."
  default     = "2Gi"
  validation {
    condition = try(
      tonumber(regex("^([0-9]+)(?:Mi|Gi)$", var.objects_memory)[0]) * (endswith(var.objects_memory, "Gi") ? 1024 : 1) >= { "1" = 512, "2" = 512, "4" = 2048, "6" = 4096, "8" = 4096 }[var.objects_cpu] &&
      tonumber(regex("^([0-9]+)(?:Mi|Gi)$", var.objects_memory)[0]) * (endswith(var.objects_memory, "Gi") ? 1024 : 1) <= { "1" = 4096, "2" = 8192, "4" = 16384, "6" = 24576, "8" = 32768 }[var.objects_cpu], false
    )
    error_message = "A size such as 1Gi that Cloud Run gives with so many vCPUs: 512Mi to 4Gi with 1, to 8Gi with 2, 2Gi to 16Gi with 4, 4Gi to 24Gi with 6, 4Gi to 32Gi with 8."
  }
}

variable "objects_max_instance_count" {
  type        = number
  description = "Instances at most. Over some 50 GB a job with `landfast load` is the way."
  default     = 2
  validation {
    condition     = var.objects_max_instance_count >= 1 && var.objects_max_instance_count <= 100
    error_message = "1 to 100."
  }
}

variable "objects_concurrency" {
  type        = number
  description = "Objects that an instance takes at a time."
  default     = 4
  validation {
    condition     = var.objects_concurrency >= 1 && var.objects_concurrency <= 1000
    error_message = "1 to 1000."
  }
}

# The worker that pulls

variable "worker_cpu" {
  type        = string
  description = "vCPUs: one takes some 16,000 messages/s, two 29,000 (simulated)."
  default     = "2"
  validation {
    condition     = contains(["1", "2", "4", "6", "8"], var.worker_cpu)
    error_message = "1, 2, 4, 6 or 8 CPUs: less than one takes one request at a time."
  }
}

variable "worker_memory" {
  type        = string
  description = "Memory: a quarter for the payload that is outstanding, twice that to decode and encode it."
  default     = "2Gi"
  validation {
    condition = try(
      tonumber(regex("^([0-9]+)(?:Mi|Gi)$", var.worker_memory)[0]) * (endswith(var.worker_memory, "Gi") ? 1024 : 1) >= { "1" = 512, "2" = 512, "4" = 2048, "6" = 4096, "8" = 4096 }[var.worker_cpu] &&
      tonumber(regex("^([0-9]+)(?:Mi|Gi)$", var.worker_memory)[0]) * (endswith(var.worker_memory, "Gi") ? 1024 : 1) <= { "1" = 4096, "2" = 8192, "4" = 16384, "6" = 24576, "8" = 32768 }[var.worker_cpu], false
    )
    error_message = "A size such as 1Gi that Cloud Run gives with so many vCPUs: 512Mi to 4Gi with 1, to 8Gi with 2, 2Gi to 16Gi with 4, 4Gi to 24Gi with 6, 4Gi to 32Gi with 8."
  }
}

variable "worker_instance_count" {
  type        = number
  description = "Workers, always on. Two conflict little, since their batches are large."
  default     = 1
  validation {
    condition     = var.worker_instance_count >= 0 && var.worker_instance_count <= 100
    error_message = "0 to 100."
  }
}

variable "worker_ack_deadline_seconds" {
  type        = number
  description = "The pulled subscriptions' acknowledgement deadline, at least twice the longest commit_interval. A worker that is killed keeps what it had leased for so long."
  default     = 60
  validation {
    condition     = var.worker_ack_deadline_seconds >= 20 && var.worker_ack_deadline_seconds <= 600
    error_message = "20 to 600: Pub/Sub takes 10, but landfast keeps 10 s of it to answer."
  }
}

variable "worker_max_in_flight_requests" {
  type        = number
  description = "Messages outstanding: a batch is flushed at 80 % of them."
  default     = 50000
  validation {
    condition     = var.worker_max_in_flight_requests >= 1000 && var.worker_max_in_flight_requests <= 1000000
    error_message = "1000 to 1000000."
  }
}

variable "worker_max_in_flight_bytes" {
  type        = string
  description = "Payload outstanding, such as 512MiB. Null: a quarter of worker_memory."
  default     = null
  validation {
    condition     = var.worker_max_in_flight_bytes == null || can(regex("^[0-9]+(KiB|MiB|GiB|KB|MB|GB)$", var.worker_max_in_flight_bytes))
    error_message = "A size such as 256MiB."
  }
}

# Maintenance and monitoring

variable "maintenance_schedule" {
  type        = string
  description = "When `landfast maintain` runs, as cron says it. Daily: it deletes what nothing names, and moves external tables on that a killed process left behind. Null: never."
  default     = "17 3 * * *"
  validation {
    condition     = var.maintenance_schedule == null || try(length(split(" ", var.maintenance_schedule)) == 5, false)
    error_message = "A schedule has five fields: minute, hour, day, month, weekday."
  }
}

variable "verify_schedule" {
  type        = string
  description = "When `landfast verify` runs, which reads every manifest of every kept snapshot, whether or not `maintain` is scheduled. Null: never."
  default     = null
  validation {
    condition     = var.verify_schedule == null || try(length(split(" ", var.verify_schedule)) == 5, false)
    error_message = "A schedule has five fields: minute, hour, day, month, weekday."
  }
}

variable "maintenance_cpu" {
  type        = string
  description = "vCPUs of the jobs for maintain and verify."
  default     = "2"
  validation {
    condition     = contains(["1", "2", "4", "6", "8"], var.maintenance_cpu)
    error_message = "1, 2, 4, 6 or 8 CPUs: less than one takes one request at a time."
  }
}

variable "maintenance_memory" {
  type        = string
  description = "Memory of the jobs for maintain and verify: eight bytes for each file that a table names, and the names of those that go."
  default     = "4Gi"
  validation {
    condition = try(
      tonumber(regex("^([0-9]+)(?:Mi|Gi)$", var.maintenance_memory)[0]) * (endswith(var.maintenance_memory, "Gi") ? 1024 : 1) >= { "1" = 512, "2" = 512, "4" = 2048, "6" = 4096, "8" = 4096 }[var.maintenance_cpu] &&
      tonumber(regex("^([0-9]+)(?:Mi|Gi)$", var.maintenance_memory)[0]) * (endswith(var.maintenance_memory, "Gi") ? 1024 : 1) <= { "1" = 4096, "2" = 8192, "4" = 16384, "6" = 24576, "8" = 32768 }[var.maintenance_cpu], false
    )
    error_message = "A size such as 1Gi that Cloud Run gives with so many vCPUs: 512Mi to 4Gi with 1, to 8Gi with 2, 2Gi to 16Gi with 4, 4Gi to 24Gi with 6, 4Gi to 32Gi with 8."
  }
}

variable "time_zone" {
  type        = string
  description = "The schedules' time zone."
  default     = "Etc/UTC"
  validation {
    condition     = can(regex("^[A-Za-z_]+(/[A-Za-z_+-]+[0-9]*)*$", var.time_zone))
    error_message = "A time zone is called as Europe/Berlin is."
  }
}

variable "scheduler_region" {
  type        = string
  description = "The region of the schedule, where Cloud Scheduler is not in region. Null: region."
  default     = null
  validation {
    condition     = var.scheduler_region == null || can(regex("^[a-z]+-[a-z]+[0-9]+$", var.scheduler_region))
    error_message = "A region is called as europe-west1 is."
  }
}

variable "create_monitoring" {
  type        = bool
  description = "Whether alerts and a dashboard are made."
  default     = true
  nullable    = false
  validation {
    condition     = contains([true, false], var.create_monitoring)
    error_message = "true or false."
  }
}

variable "notification_channels" {
  type        = list(string)
  description = "Who is told of alerts: projects/P/notificationChannels/N."
  default     = []
  validation {
    condition     = alltrue([for one in var.notification_channels : can(regex("^projects/[^/]+/notificationChannels/[^/]+$", one))])
    error_message = "A channel is projects/P/notificationChannels/N."
  }
}

variable "disabled_alerts" {
  type        = list(string)
  description = "Alerts to leave out, such as late or conflicts: the keys of the output alert_policies."
  default     = []
  validation {
    condition     = alltrue([for one in var.disabled_alerts : can(regex("^[a-z_]+$", one))])
    error_message = "Keys of alerts have lower-case letters and underscores."
  }
}

variable "runbook_url" {
  type        = string
  description = "Where your team reads docs/runbook.md: alerts link to it with their key as the fragment. Null: alerts name the file."
  default     = null
  validation {
    condition     = var.runbook_url == null || can(regex("^https?://[^#]+$", var.runbook_url))
    error_message = "A URL without a fragment."
  }
}

variable "api_token_secret" {
  type        = string
  description = "A secret in Secret Manager, there already, with the token for direct rows and /metrics. Null: both are refused, and only Google's metrics are there."
  default     = null
  validation {
    condition     = var.api_token_secret == null || can(regex("^[A-Za-z0-9_-]{1,255}$", var.api_token_secret))
    error_message = "The secret's short name, of this project."
  }
}

variable "collect_metrics" {
  type        = bool
  description = "Whether a collector beside landfast writes its metrics to Managed Service for Prometheus; wants api_token_secret, and CPU between requests. It is billed as a vCPU and 512 MiB more."
  default     = true
  nullable    = false
  validation {
    condition     = contains([true, false], var.collect_metrics)
    error_message = "true or false."
  }
}

variable "environment" {
  type        = map(string)
  description = "Further environment variables, such as RUST_LOG."
  default     = {}
  validation {
    condition     = !anytrue([for name in keys(var.environment) : contains(["PORT", "K_SERVICE", "K_REVISION", "K_CONFIGURATION", "GOOGLE_CLOUD_PROJECT"], name)])
    error_message = "These names are set by Cloud Run or by the modules."
  }
}

variable "secret_environment" {
  type        = map(string)
  description = "Environment variables from Secret Manager: the short names of secrets of this project, which are there already."
  default     = {}
  validation {
    condition     = alltrue([for secret in values(var.secret_environment) : can(regex("^[A-Za-z0-9_-]{1,255}$", secret))]) && !contains(keys(var.secret_environment), "API_TOKEN")
    error_message = "Short names of secrets; API_TOKEN is api_token_secret's."
  }
}

# Keys and networks

variable "kms_key_name" {
  type        = string
  description = "A key of yours, in region, as text rather than from a resource, since grants hang on it: encrypts buckets, topics, secrets, dataset and Cloud Run's images, projects/P/locations/L/keyRings/R/cryptoKeys/K. The agents of Google that use it are granted it; each must exist (`gcloud beta services identity create --service=SERVICE --project=PROJECT`, `gcloud storage service-agent --project=PROJECT`)."
  default     = null
  validation {
    condition     = var.kms_key_name == null || try(regex("^projects/[^/]+/locations/([^/]+)/keyRings/[^/]+/cryptoKeys/[^/]+$", var.kms_key_name)[0] == var.region && lower(coalesce(var.bucket_location, var.region)) == var.region, false)
    error_message = "A key is named projects/P/locations/L/keyRings/R/cryptoKeys/K, and lies where what it encrypts lies: L, region and bucket_location must be the same."
  }
}

variable "vpc_access" {
  type = object({
    network    = optional(string)
    subnetwork = string
    tags       = optional(list(string), [])
    egress     = optional(string, "PRIVATE_RANGES_ONLY")
  })
  description = "Direct VPC egress through a subnet of a /26 or larger. ALL_TRAFFIC sends calls to Google's APIs through it as well: turn Private Google Access on there."
  default     = null
  validation {
    condition     = var.vpc_access == null || try(contains(["PRIVATE_RANGES_ONLY", "ALL_TRAFFIC"], var.vpc_access.egress), false)
    error_message = "The egress is PRIVATE_RANGES_ONLY or ALL_TRAFFIC."
  }
}
