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
  description = "What alerts and dashboard are called."
  default     = "landfast"
  validation {
    condition     = length(var.name) > 0
    error_message = "Give a name."
  }
}

variable "subscription_names" {
  type        = list(string)
  description = "The subscriptions that landfast takes messages from, short."
  default     = []
  validation {
    condition     = alltrue([for one in var.subscription_names : can(regex("^[A-Za-z0-9._~+%-]+$", one))])
    error_message = "Short names."
  }
}

variable "paused_subscriptions" {
  type        = list(string)
  description = "Those of subscription_names where messages wait on purpose: shown, and nobody is told."
  default     = []
  validation {
    condition     = length(setsubtract(var.paused_subscriptions, var.subscription_names)) == 0
    error_message = "A paused subscription is one of subscription_names."
  }
}

variable "subscription_patterns" {
  type        = list(string)
  description = "Regular expressions of subscriptions whose names Google chooses, such as Eventarc's."
  default     = []
  validation {
    condition     = alltrue([for one in var.subscription_patterns : length(one) > 0 && !strcontains(one, "\"")])
    error_message = "Regular expressions without quotes."
  }
}

variable "service_names" {
  type        = list(string)
  description = "The Cloud Run services."
  default     = []
  validation {
    condition     = alltrue([for one in var.service_names : can(regex("^[A-Za-z0-9._~+%-]+$", one))])
    error_message = "Short names."
  }
}

variable "job_names" {
  type        = list(string)
  description = "The Cloud Run jobs."
  default     = []
  validation {
    condition     = alltrue([for one in var.job_names : can(regex("^[A-Za-z0-9._~+%-]+$", one))])
    error_message = "Short names."
  }
}

variable "worker_pool_names" {
  type        = list(string)
  description = "The Cloud Run worker pools."
  default     = []
  validation {
    condition     = alltrue([for one in var.worker_pool_names : can(regex("^[A-Za-z0-9._~+%-]+$", one))])
    error_message = "Short names."
  }
}

variable "bucket_names" {
  type        = list(string)
  description = "The buckets whose requests are cost."
  default     = []
  validation {
    condition     = alltrue([for one in var.bucket_names : can(regex("^[A-Za-z0-9._~+%-]+$", one))])
    error_message = "Short names."
  }
}

variable "notification_channels" {
  type        = list(string)
  description = "Who is told: projects/P/notificationChannels/N. Empty: incidents are shown, and nobody is told."
  default     = []
  validation {
    condition     = alltrue([for one in var.notification_channels : can(regex("^projects/[^/]+/notificationChannels/[^/]+$", one))])
    error_message = "A channel is projects/P/notificationChannels/N."
  }
}

variable "landfast_metrics" {
  type        = bool
  description = "Whether landfast's own metrics are collected; else alerts and charts are of Google's alone."
  default     = true
  nullable    = false
  validation {
    condition     = contains([true, false], var.landfast_metrics)
    error_message = "true or false."
  }
}

variable "metrics_namespace" {
  type        = string
  description = "What the collector calls this deployment's metrics, their label `namespace`, so that two of one project are told apart. Null: all are taken for one."
  default     = null
  validation {
    condition     = var.metrics_namespace == null || can(regex("^[A-Za-z0-9._-]+$", var.metrics_namespace))
    error_message = "Letters, digits, dots, underscores and hyphens."
  }
}

variable "disabled_alerts" {
  type        = list(string)
  description = "Alerts to leave out, such as late or conflicts: the keys of the output alert_policies."
  default     = []
  validation {
    condition = alltrue([for one in var.disabled_alerts : contains([
      "conflicts", "dead_letters", "deliveries_nacked", "jobs", "late", "may_land_twice", "memory", "metadata_large", "nothing_lands",
      "oldest_unacked_page", "oldest_unacked_warn", "paused_too_long", "publish_stale", "requests_full", "requests_refused", "sender_wrong", "store_failures", "tokens_refused",
    ], one)])
    error_message = "An alert is called as in the README's table: nothing_lands, oldest_unacked_page, jobs and so on."
  }
}

variable "runbook_url" {
  type        = string
  description = "Where your team reads docs/runbook.md: alerts link to it with their key as the fragment, URL#nothing_lands. Null: alerts name the file."
  default     = null
  validation {
    condition     = var.runbook_url == null || can(regex("^https?://[^#]+$", var.runbook_url))
    error_message = "A URL without a fragment."
  }
}

variable "seconds_since_commit" {
  type        = number
  description = "Seconds without a commit, while messages wait."
  default     = 60
  validation {
    condition     = var.seconds_since_commit > 0
    error_message = "More than 0."
  }
}

variable "unacked_page_seconds" {
  type        = number
  description = "Age of the oldest message that pages."
  default     = 600
  validation {
    condition     = var.unacked_page_seconds > 0
    error_message = "More than 0."
  }
}

variable "unacked_warn_seconds" {
  type        = number
  description = "Age of the oldest message that warns."
  default     = 60
  validation {
    condition     = var.unacked_warn_seconds > 0
    error_message = "More than 0."
  }
}

variable "paused_seconds" {
  type        = number
  description = "Age of the oldest message of a paused subscription that pages: before the subscription's retention, 7 days unless it is set, is over."
  default     = 432000
  validation {
    condition     = var.paused_seconds > 0
    error_message = "More than 0."
  }
}

variable "publish_staleness_seconds" {
  type        = number
  description = "Seconds that BigQuery may lag behind."
  default     = 300
  validation {
    condition     = var.publish_staleness_seconds > 0
    error_message = "More than 0."
  }
}

variable "freshness_seconds" {
  type        = number
  description = "Seconds from publish to commit that 99 % of the deliveries keep. The last bucket is 300."
  default     = 30
  validation {
    condition     = var.freshness_seconds > 0
    error_message = "More than 0."
  }
}

variable "dead_letters" {
  type        = number
  description = "Dead letters in ten minutes, of one table and reason, that are nothing unusual."
  default     = 0
  validation {
    condition     = var.dead_letters >= 0
    error_message = "Not below 0."
  }
}

variable "conflict_ratio" {
  type        = number
  description = "Conflicts per commit."
  default     = 0.5
  validation {
    condition     = var.conflict_ratio > 0
    error_message = "More than 0."
  }
}

variable "refused_ratio" {
  type        = number
  description = "Share of requests that are answered 429 or 5xx."
  default     = 0.01
  validation {
    condition     = var.refused_ratio > 0 && var.refused_ratio <= 1
    error_message = "More than 0, at most 1."
  }
}

variable "memory_ratio" {
  type        = number
  description = "Share of an instance's memory."
  default     = 0.85
  validation {
    condition     = var.memory_ratio > 0 && var.memory_ratio <= 1
    error_message = "More than 0, at most 1."
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
