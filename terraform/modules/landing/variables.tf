variable "project_id" {
  type        = string
  description = "The project of everything here."
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project_id))
    error_message = "A project id has 6 to 30 lower-case letters, digits and hyphens, and begins with a letter."
  }
}

variable "project_number" {
  type        = string
  description = "The project's number, by which Cloud Storage's agent is called."
  validation {
    condition     = can(regex("^[0-9]+$", var.project_number))
    error_message = "A project number has digits only."
  }
}

variable "name" {
  type        = string
  description = "The bucket's name, as a table's `from` says it."
  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9_.-]{1,61}[a-z0-9]$", var.name)) && !startswith(var.name, "goog") && !can(regex("g[o0][o0]g[l1]e|[.][.]|[.]-|-[.]|^[0-9]+[.][0-9]+[.][0-9]+[.][0-9]+$", var.name))
    error_message = "A bucket's name has 3 to 63 lower-case letters, digits, hyphens, underscores and dots, begins and ends with a letter or digit, is no IP address, has no dot beside a dot or hyphen, and does not say google."
  }
}

variable "location" {
  type        = string
  description = "Where the bucket is: a region such as europe-west1, or EU, US, ASIA."
  validation {
    condition     = can(regex("^([a-zA-Z]+-[a-zA-Z]+[0-9]+|[a-zA-Z]{2,4}[0-9]?)$", var.location))
    error_message = "A location is a region such as europe-west1, a dual region such as eur4, or EU, US, ASIA."
  }
}

variable "transport" {
  type        = string
  description = "How events come: notification, by a topic of yours, whose subscription's deadline and retention are as you set them; or eventarc, by a trigger, whose subscription is Eventarc's: raise its acknowledgement deadline by hand."
  default     = "notification"
  validation {
    condition     = contains(["notification", "eventarc"], var.transport)
    error_message = "The transport is notification or eventarc."
  }
}

variable "topic" {
  type        = string
  description = "With notification: the full name of the topic, projects/P/topics/T."
  default     = null
  validation {
    condition     = var.transport != "notification" || can(regex("^projects/[^/]+/topics/[^/]+$", var.topic))
    error_message = "A notification wants the topic's full name, projects/P/topics/T: provider 7 takes no short one."
  }
}

variable "eventarc" {
  type = object({
    service_account_email = string
    service_name          = string
    service_region        = string
  })
  description = "With eventarc: the account that delivers, and the Cloud Run service."
  default     = null
  validation {
    condition     = var.transport != "eventarc" || var.eventarc != null
    error_message = "A trigger wants an account and a service."
  }
}

variable "object_name_prefix" {
  type        = string
  description = "With notification: only objects whose names begin so. Leave it out where a table says `after: move`, whose copies are passed over by themselves."
  default     = null
  validation {
    condition     = var.object_name_prefix == null || var.transport == "notification"
    error_message = "A trigger takes the whole bucket: say objects in the table's `from`."
  }
}

variable "delete_after_days" {
  type        = number
  description = "Days until objects are deleted, landed or not. Null: never. A dead letter of a whole object has no bytes: they are here alone."
  default     = null
  validation {
    condition     = var.delete_after_days == null || try(var.delete_after_days >= 9, false)
    error_message = "An event comes again for 7 days: keep objects for 9 at least."
  }
}

variable "soft_delete_retention_seconds" {
  type        = number
  description = "How long deleted objects can be brought back, 7 days (604800) to 90 days; 0: not at all."
  default     = 604800
  validation {
    condition     = var.soft_delete_retention_seconds == 0 || (var.soft_delete_retention_seconds >= 604800 && var.soft_delete_retention_seconds <= 7776000)
    error_message = "Cloud Storage takes 0, or 604800 (7 days) to 7776000 (90 days)."
  }
}

variable "force_destroy" {
  type        = bool
  description = "Whether `terraform destroy` deletes the bucket with all that is in it."
  default     = false
  nullable    = false
  validation {
    condition     = contains([true, false], var.force_destroy)
    error_message = "true or false."
  }
}

variable "readers" {
  type        = map(string)
  description = "Who lands the objects, that is landfast's accounts: IAM members, by a name of your own."
  default     = {}
  validation {
    condition     = !anytrue([for member in values(var.readers) : contains(["allUsers", "allAuthenticatedUsers"], member)])
    error_message = "Nothing here is for everyone."
  }
}

variable "movers" {
  type        = map(string)
  description = "Who puts objects away (after: move, after: delete): IAM members, by a name of your own."
  default     = {}
  validation {
    condition     = !anytrue([for member in values(var.movers) : contains(["allUsers", "allAuthenticatedUsers"], member)])
    error_message = "Nothing here is for everyone."
  }
}

variable "writers" {
  type        = map(string)
  description = "Who drops files: IAM members, by a name of your own."
  default     = {}
  validation {
    condition     = !anytrue([for member in values(var.writers) : contains(["allUsers", "allAuthenticatedUsers"], member)])
    error_message = "Nothing here is for everyone."
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

