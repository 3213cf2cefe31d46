variable "project_id" {
  type        = string
  description = "The project of the topic and its subscriptions."
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project_id))
    error_message = "A project id has 6 to 30 lower-case letters, digits and hyphens, and begins with a letter."
  }
}

variable "project_number" {
  type        = string
  description = "The project's number, by which Pub/Sub's agent is called."
  validation {
    condition     = can(regex("^[0-9]+$", var.project_number))
    error_message = "A project number has digits only."
  }
}

variable "topic" {
  type        = string
  description = "The topic's name."
  validation {
    condition     = can(regex("^[A-Za-z][A-Za-z0-9._~+%-]{2,254}$", var.topic)) && !startswith(var.topic, "goog")
    error_message = "A topic's name has 3 to 255 letters, digits and -._~+%, begins with a letter and not with goog."
  }
}

variable "create_topic" {
  type        = bool
  description = "Whether the topic is made; false takes one that is there."
  default     = true
  nullable    = false
  validation {
    condition     = var.create_topic || (var.schema == null && var.kms_key_name == null && var.topic_message_retention_duration == null)
    error_message = "Schema, key and retention of a topic that is there are its owner's."
  }
}

variable "topic_labels" {
  type        = map(string)
  description = "Labels of the topic."
  default     = {}
  validation {
    condition     = alltrue([for key in keys(var.topic_labels) : can(regex("^[a-z][a-z0-9_-]{0,62}$", key))])
    error_message = "A label's key has up to 63 lower-case letters, digits, hyphens and underscores, and begins with a letter."
  }
}

variable "topic_message_retention_duration" {
  type        = string
  description = "How long the topic itself keeps messages, for seeks, such as 86400s. Null: not at all. The table's ledger.retention must be a day longer."
  default     = null
  validation {
    condition     = var.topic_message_retention_duration == null || try(tonumber(trimsuffix(var.topic_message_retention_duration, "s")) >= 600 && tonumber(trimsuffix(var.topic_message_retention_duration, "s")) <= 2678400, false)
    error_message = "A topic keeps messages for 600s to 2678400s (31 days)."
  }
}

variable "kms_key_name" {
  type        = string
  description = "A key of yours that encrypts the messages: projects/P/locations/L/keyRings/R/cryptoKeys/K. Pub/Sub's agent must be allowed to use it."
  default     = null
  validation {
    condition     = var.kms_key_name == null || can(regex("^projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+$", var.kms_key_name))
    error_message = "A key is named projects/P/locations/L/keyRings/R/cryptoKeys/K."
  }
}

variable "allowed_persistence_regions" {
  type        = list(string)
  description = "Regions where messages may be stored. Empty: as the organisation's policy says."
  default     = []
  validation {
    condition     = alltrue([for region in var.allowed_persistence_regions : can(regex("^[a-z]+-[a-z]+[0-9]+$", region))])
    error_message = "A region is called as europe-west1 is."
  }
}

variable "schema" {
  type = object({
    name     = string
    encoding = optional(string, "JSON")
  })
  description = "A schema that messages must have, projects/P/schemas/S, and its encoding."
  default     = null
  validation {
    condition     = var.schema == null || try(contains(["JSON", "BINARY"], var.schema.encoding), false)
    error_message = "The encoding is JSON or BINARY."
  }
}

variable "push_subscriptions" {
  type = map(object({
    push_endpoint              = optional(string)
    oidc_service_account_email = string
    audience                   = optional(string)
    filter                     = optional(string)
    ack_deadline_seconds       = optional(number, 60)
    message_retention_duration = optional(string, "604800s")
    minimum_backoff            = optional(string, "1s")
    maximum_backoff            = optional(string, "60s")
    dead_letter_policy = optional(object({
      topic                 = string
      max_delivery_attempts = optional(number, 100)
    }))
  }))
  description = <<-EOT
    Push subscriptions by their names. Without push_endpoint nothing is delivered, and messages wait. Each push is signed for oidc_service_account_email, with the endpoint as its audience unless audience names another.
    ack_deadline_seconds 60: Pub/Sub's 10 is shorter than Cloud Run's queue and a retry; 600 for objects. Backoff 1s to 60s: a 429 must not come back at once.
    dead_letter_policy (off) is Pub/Sub's own, with the topic that it forwards to, projects/P/topics/T, as text rather than from a resource, since grants hang on it: an outage would drain the subscription into it, and what it forwards has a new id, so that it can land twice. landfast keeps dead letters of its own.
  EOT
  default     = {}
  validation {
    condition     = alltrue([for name in keys(var.push_subscriptions) : can(regex("^[A-Za-z][A-Za-z0-9._~+%-]{2,254}$", name)) && !startswith(name, "goog")])
    error_message = "A subscription's name has 3 to 255 letters, digits and -._~+%, begins with a letter and not with goog."
  }
  validation {
    condition     = alltrue([for one in values(var.push_subscriptions) : one.ack_deadline_seconds >= 10 && one.ack_deadline_seconds <= 600])
    error_message = "An acknowledgement deadline is 10 to 600 seconds."
  }
  validation {
    condition     = alltrue([for one in values(var.push_subscriptions) : try(tonumber(trimsuffix(one.message_retention_duration, "s")) >= 600 && tonumber(trimsuffix(one.message_retention_duration, "s")) <= 2678400, false)])
    error_message = "A retention is 600s to 2678400s (31 days)."
  }
  validation {
    condition     = alltrue([for one in values(var.push_subscriptions) : one.dead_letter_policy == null || try(can(regex("^projects/[^/]+/topics/[^/]+$", one.dead_letter_policy.topic)) && one.dead_letter_policy.max_delivery_attempts >= 5 && one.dead_letter_policy.max_delivery_attempts <= 100, false)])
    error_message = "A dead-letter policy names its topic in full, projects/P/topics/T, and Pub/Sub takes 5 to 100 delivery attempts."
  }
  validation {
    condition     = alltrue([for one in values(var.push_subscriptions) : try(tonumber(trimsuffix(one.minimum_backoff, "s")) <= tonumber(trimsuffix(one.maximum_backoff, "s")) && tonumber(trimsuffix(one.maximum_backoff, "s")) <= 600, false)])
    error_message = "A backoff is 0s to 600s, and the minimum is not above the maximum."
  }
}

variable "pull_subscriptions" {
  type = map(object({
    subscribers                  = optional(map(string), {})
    filter                       = optional(string)
    ack_deadline_seconds         = optional(number, 60)
    message_retention_duration   = optional(string, "604800s")
    enable_exactly_once_delivery = optional(bool, false)
    minimum_backoff              = optional(string, "1s")
    maximum_backoff              = optional(string, "60s")
    dead_letter_policy = optional(object({
      topic                 = string
      max_delivery_attempts = optional(number, 100)
    }))
  }))
  description = "Pull subscriptions by their names, and who may pull them. Exactly-once delivery is off: the table's ledger drops copies, and without it Pub/Sub is faster."
  default     = {}
  validation {
    condition     = alltrue([for name in keys(var.pull_subscriptions) : can(regex("^[A-Za-z][A-Za-z0-9._~+%-]{2,254}$", name)) && !startswith(name, "goog")])
    error_message = "A subscription's name has 3 to 255 letters, digits and -._~+%, begins with a letter and not with goog."
  }
  validation {
    condition     = length(setintersection(keys(var.pull_subscriptions), keys(var.push_subscriptions))) == 0
    error_message = "A subscription pushes or is pulled: give the two different names."
  }
  validation {
    condition     = alltrue([for one in values(var.pull_subscriptions) : one.ack_deadline_seconds >= 10 && one.ack_deadline_seconds <= 600])
    error_message = "An acknowledgement deadline is 10 to 600 seconds."
  }
  validation {
    condition     = alltrue([for one in values(var.pull_subscriptions) : try(tonumber(trimsuffix(one.message_retention_duration, "s")) >= 600 && tonumber(trimsuffix(one.message_retention_duration, "s")) <= 2678400, false)])
    error_message = "A retention is 600s to 2678400s (31 days)."
  }
  validation {
    condition     = alltrue([for one in values(var.pull_subscriptions) : one.dead_letter_policy == null || try(can(regex("^projects/[^/]+/topics/[^/]+$", one.dead_letter_policy.topic)) && one.dead_letter_policy.max_delivery_attempts >= 5 && one.dead_letter_policy.max_delivery_attempts <= 100, false)])
    error_message = "A dead-letter policy names its topic in full, projects/P/topics/T, and Pub/Sub takes 5 to 100 delivery attempts."
  }
  validation {
    condition     = alltrue([for one in values(var.pull_subscriptions) : try(tonumber(trimsuffix(one.minimum_backoff, "s")) <= tonumber(trimsuffix(one.maximum_backoff, "s")) && tonumber(trimsuffix(one.maximum_backoff, "s")) <= 600, false)])
    error_message = "A backoff is 0s to 600s, and the minimum is not above the maximum."
  }
}

variable "subscription_labels" {
  type        = map(string)
  description = "Labels of the subscriptions."
  default     = {}
  validation {
    condition     = alltrue([for key in keys(var.subscription_labels) : can(regex("^[a-z][a-z0-9_-]{0,62}$", key))])
    error_message = "A label's key has up to 63 lower-case letters, digits, hyphens and underscores, and begins with a letter."
  }
}

variable "publishers" {
  type        = map(string)
  description = "Who may publish: IAM members, by a name of your own."
  default     = {}
  validation {
    condition     = !anytrue([for member in values(var.publishers) : contains(["allUsers", "allAuthenticatedUsers"], member)])
    error_message = "A topic that everyone may publish to is no source of events."
  }
}
