variable "project_id" {
  type        = string
  description = "The project of everything here."
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project_id))
    error_message = "A project id has 6 to 30 lower-case letters, digits and hyphens, and begins with a letter."
  }
}

variable "name" {
  type        = string
  description = "The name."
  validation {
    condition     = can(regex("^[a-z]([a-z0-9-]{0,47}[a-z0-9])?$", var.name))
    error_message = "A name has up to 49 lower-case letters, digits and hyphens, begins with a letter and does not end with a hyphen."
  }
}

variable "location" {
  type        = string
  description = "The region, such as europe-west1: where the bucket is."
  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.location))
    error_message = "A region is called as europe-west1 is."
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

variable "service_account_email" {
  type        = string
  description = "The account it runs as."
  validation {
    condition     = can(regex("@", var.service_account_email)) && !endswith(var.service_account_email, "-compute@developer.gserviceaccount.com")
    error_message = "An account's e-mail address, and not the default one of Compute Engine, which may edit the project."
  }
}

variable "config_secret" {
  type        = string
  description = "The secret with the configuration, as the module config puts it out."
  validation {
    condition     = length(var.config_secret) > 0
    error_message = "Name the secret."
  }
}

variable "config_version" {
  type        = string
  description = "The secret's version. A number, so that another configuration is another revision."
  validation {
    condition     = var.config_version != "latest"
    error_message = "latest would change under a running revision."
  }
}

variable "environment" {
  type        = map(string)
  description = "Further environment variables, such as RUST_LOG or GOOGLE_BASE_URL."
  default     = {}
  validation {
    condition     = !anytrue([for name in keys(var.environment) : contains(["PORT", "K_SERVICE", "K_REVISION", "K_CONFIGURATION", "GOOGLE_CLOUD_PROJECT"], name)])
    error_message = "These names are set by Cloud Run or by this module."
  }
}

variable "secret_environment" {
  type = map(object({
    secret  = string
    version = optional(string, "latest")
  }))
  description = "Environment variables from Secret Manager, such as API_TOKEN: the account must be allowed to read them. They are read as an instance starts."
  default     = {}
  validation {
    condition     = alltrue([for name in keys(var.secret_environment) : can(regex("^[A-Za-z_][A-Za-z0-9_]*$", name))])
    error_message = "A variable's name has letters, digits and underscores."
  }
}

variable "cloud_sql_proxy" {
  type = object({
    instance_connection_name = string
    private_ip               = optional(bool, false)
    image                    = optional(string, "gcr.io/cloud-sql-connectors/cloud-sql-proxy:2.25.0")
  })
  description = "For a catalog in Cloud SQL: a proxy beside landfast that logs in as its account (IAM) and listens on /cloudsql/INSTANCE/.s.PGSQL.5432."
  default     = null
  validation {
    condition     = var.cloud_sql_proxy == null || can(regex("^[^:]+(:[^:]+)?:[^:]+:[^:]+$", var.cloud_sql_proxy.instance_connection_name))
    error_message = "A connection name is PROJECT:REGION:INSTANCE."
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

variable "deletion_protection" {
  type        = bool
  description = "Whether Terraform refuses to delete or replace it. Google's provider has true; it holds no data, so false lets names change."
  default     = false
  nullable    = false
  validation {
    condition     = contains([true, false], var.deletion_protection)
    error_message = "true or false."
  }
}

variable "cpu" {
  type        = string
  description = "vCPUs."
  default     = "2"
  validation {
    condition     = contains(["1", "2", "4", "6", "8"], var.cpu)
    error_message = "1, 2, 4, 6 or 8 CPUs: less than one takes one request at a time."
  }
}

variable "memory" {
  type        = string
  description = "Memory: eight bytes for each file that a table names, and the names of those that go."
  default     = "4Gi"
  validation {
    condition = try(
      tonumber(regex("^([0-9]+)(?:Mi|Gi)$", var.memory)[0]) * (endswith(var.memory, "Gi") ? 1024 : 1) >= { "1" = 512, "2" = 512, "4" = 2048, "6" = 4096, "8" = 4096 }[var.cpu] &&
      tonumber(regex("^([0-9]+)(?:Mi|Gi)$", var.memory)[0]) * (endswith(var.memory, "Gi") ? 1024 : 1) <= { "1" = 4096, "2" = 8192, "4" = 16384, "6" = 24576, "8" = 32768 }[var.cpu], false
    )
    error_message = "A size such as 1Gi that Cloud Run gives with so many vCPUs: 512Mi to 4Gi with 1, to 8Gi with 2, 2Gi to 16Gi with 4, 4Gi to 24Gi with 6, 4Gi to 32Gi with 8."
  }
}

variable "scheduler_service_account_email" {
  type        = string
  description = "The account as which Cloud Scheduler starts the jobs. It may do nothing else. Null where nothing is scheduled."
  default     = null
  validation {
    condition     = var.scheduler_service_account_email == null ? var.schedule == null && var.verify_schedule == null : strcontains(var.scheduler_service_account_email, "@")
    error_message = "An account's e-mail address, where something is scheduled."
  }
}

variable "scheduler_location" {
  type        = string
  description = "The region of the schedule, where Cloud Scheduler is not in location. Null: location."
  default     = null
  validation {
    condition     = var.scheduler_location == null || can(regex("^[a-z]+-[a-z]+[0-9]+$", var.scheduler_location))
    error_message = "A region is called as europe-west1 is."
  }
}

variable "schedule" {
  type        = string
  description = "When `landfast maintain` runs, as cron says it. Once a day: snapshots are thinned by hours and days. Null: never."
  default     = "17 3 * * *"
  validation {
    condition     = var.schedule == null || try(length(split(" ", var.schedule)) == 5, false)
    error_message = "A schedule has five fields: minute, hour, day, month, weekday."
  }
}

variable "verify_schedule" {
  type        = string
  description = "When `landfast verify` runs, which reads every manifest of every kept snapshot. Null: never."
  default     = null
  validation {
    condition     = var.verify_schedule == null || try(length(split(" ", var.verify_schedule)) == 5, false)
    error_message = "A schedule has five fields: minute, hour, day, month, weekday."
  }
}

variable "check" {
  type        = bool
  description = "Whether there is a job for `landfast check`, which is started by hand: it probes what the account may do."
  default     = false
  nullable    = false
  validation {
    condition     = contains([true, false], var.check)
    error_message = "true or false."
  }
}

variable "run" {
  type        = bool
  description = "Whether there is a job for other commands, such as show and replay: nothing starts it by itself, whoever does gives it its arguments, and no alert counts how it ends."
  default     = false
  nullable    = false
  validation {
    condition     = contains([true, false], var.run)
    error_message = "true or false."
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

variable "timeout_seconds" {
  type        = number
  description = "The time of a run. One that is cut off leaves the rest to the next."
  default     = 3600
  validation {
    condition     = var.timeout_seconds >= 60 && var.timeout_seconds <= 86400
    error_message = "60 to 86400 seconds."
  }
}

variable "kms_key_name" {
  type        = string
  description = "A key of yours that encrypts what is kept: projects/P/locations/L/keyRings/R/cryptoKeys/K. The agent of the service that keeps it must be allowed to use it."
  default     = null
  validation {
    condition     = var.kms_key_name == null || can(regex("^projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+$", var.kms_key_name))
    error_message = "A key is named projects/P/locations/L/keyRings/R/cryptoKeys/K."
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
