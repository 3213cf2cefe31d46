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
  description = "The warehouse bucket's name, unique in the world."
  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9_.-]{1,61}[a-z0-9]$", var.name)) && !startswith(var.name, "goog") && !can(regex("g[o0][o0]g[l1]e|[.][.]|[.]-|-[.]|^[0-9]+[.][0-9]+[.][0-9]+[.][0-9]+$", var.name))
    error_message = "A bucket's name has 3 to 63 lower-case letters, digits, hyphens, underscores and dots, begins and ends with a letter or digit, is no IP address, has no dot beside a dot or hyphen, and does not say google."
  }
}

variable "dead_letters_name" {
  type        = string
  description = "The name of the dead letters' bucket."
  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9_.-]{1,61}[a-z0-9]$", var.dead_letters_name)) && !startswith(var.dead_letters_name, "goog") && !can(regex("g[o0][o0]g[l1]e|[.][.]|[.]-|-[.]|^[0-9]+[.][0-9]+[.][0-9]+[.][0-9]+$", var.dead_letters_name))
    error_message = "A bucket's name has 3 to 63 lower-case letters, digits, hyphens, underscores and dots, begins and ends with a letter or digit, is no IP address, has no dot beside a dot or hyphen, and does not say google."
  }
  validation {
    condition     = var.dead_letters_name != var.name
    error_message = "The dead letters have a bucket of their own."
  }
}

variable "location" {
  type        = string
  description = "Where the buckets are: a region such as europe-west1, or EU, US, ASIA. BigQuery's dataset and connection must be in the same one."
  validation {
    condition     = can(regex("^([a-zA-Z]+-[a-zA-Z]+[0-9]+|[a-zA-Z]{2,4}[0-9]?)$", var.location))
    error_message = "A location is a region such as europe-west1, a dual region such as eur4, or EU, US, ASIA."
  }
}

variable "warehouse_prefix" {
  type        = string
  description = "The folder of the warehouse in its bucket."
  default     = "warehouse"
  validation {
    condition     = can(regex("^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$", var.warehouse_prefix))
    error_message = "Folders of letters, digits, hyphens and underscores, without slashes at the ends."
  }
}

variable "dead_letters_prefix" {
  type        = string
  description = "The folder of the dead letters in their bucket."
  default     = "dead-letters"
  validation {
    condition     = can(regex("^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$", var.dead_letters_prefix))
    error_message = "Folders of letters, digits, hyphens and underscores, without slashes at the ends."
  }
}

variable "storage_class" {
  type        = string
  description = "The class of the objects. Small files that are rewritten within days cost more in every other class."
  default     = "STANDARD"
  validation {
    condition     = contains(["STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE"], var.storage_class)
    error_message = "The class is STANDARD, NEARLINE, COLDLINE or ARCHIVE."
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
  description = "Days until letters that were replayed are deleted: longer than a delivery may come again, which is the subscriptions' retention of 7 days (31 at most)."
  default     = 32
  validation {
    condition     = var.replayed_retention_days >= 9
    error_message = "A delivery comes again for 7 days, and is remembered for 8: keep its letters for 9 days at least."
  }
}

variable "confirmed_retention_days" {
  type        = number
  description = "Days until dead letters are deleted that nobody replayed. Null: never."
  default     = null
  validation {
    condition     = var.confirmed_retention_days == null || try(var.confirmed_retention_days >= 9, false)
    error_message = "A delivery comes again for 7 days, and is remembered for 8: keep its letters for 9 days at least."
  }
}

variable "force_destroy" {
  type        = bool
  description = "Whether `terraform destroy` deletes buckets with all that is in them."
  default     = false
  nullable    = false
  validation {
    condition     = contains([true, false], var.force_destroy)
    error_message = "true or false."
  }
}

variable "object_users" {
  type        = map(string)
  description = "Who writes, that is landfast's accounts: IAM members, by a name of your own."
  default     = {}
  validation {
    condition     = !anytrue([for member in values(var.object_users) : contains(["allUsers", "allAuthenticatedUsers"], member)])
    error_message = "Nothing here is for everyone."
  }
}

variable "object_viewers" {
  type        = map(string)
  description = "Who may read the tables' files past the catalog, such as the account of a BigQuery connection: IAM members, by a name of your own."
  default     = {}
  validation {
    condition     = !anytrue([for member in values(var.object_viewers) : contains(["allUsers", "allAuthenticatedUsers"], member)])
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

