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
  description = "The catalog's name, the second part of a table's name in BigQuery."
  validation {
    condition     = can(regex("^[a-z][a-z0-9_-]{1,62}$", var.name))
    error_message = "A catalog's name has 2 to 63 lower-case letters, digits, hyphens and underscores, and begins with a letter."
  }
}

variable "default_location" {
  type        = string
  description = "Where tables lie, such as gs://acme-lake/tables: apart from the configuration's `warehouse`, which holds the ledgers."
  validation {
    condition     = can(regex("^gs://[a-z0-9][a-z0-9_.-]+(/[^/]+)*$", var.default_location))
    error_message = "A location is gs://BUCKET or gs://BUCKET/FOLDER."
  }
}

variable "additional_locations" {
  type        = list(string)
  description = "Further buckets or folders where tables may lie, gs://…"
  default     = []
  validation {
    condition     = alltrue([for one in var.additional_locations : startswith(one, "gs://")])
    error_message = "A location is gs://BUCKET or gs://BUCKET/FOLDER."
  }
}

variable "buckets" {
  type        = list(string)
  description = "The buckets of these locations, on which roles are granted."
  default     = []
  validation {
    condition     = alltrue([for one in var.buckets : !startswith(one, "gs://")])
    error_message = "The buckets' names, without gs://."
  }
}

variable "credential_mode" {
  type        = string
  description = "Who opens the tables' files: CREDENTIAL_MODE_END_USER, each with credentials of its own; or CREDENTIAL_MODE_VENDED_CREDENTIALS, with short-lived ones of the catalog's account, so that readers need no role on the bucket."
  default     = "CREDENTIAL_MODE_END_USER"
  validation {
    condition     = contains(["CREDENTIAL_MODE_END_USER", "CREDENTIAL_MODE_VENDED_CREDENTIALS"], var.credential_mode)
    error_message = "The mode is CREDENTIAL_MODE_END_USER or CREDENTIAL_MODE_VENDED_CREDENTIALS."
  }
}

variable "user_project" {
  type        = string
  description = "The project that is charged for requests. Null: the catalog's."
  default     = null
  validation {
    condition     = var.user_project == null || can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.user_project))
    error_message = "A project id has 6 to 30 lower-case letters, digits and hyphens, and begins with a letter."
  }
}

variable "description" {
  type        = string
  description = "The catalog's description."
  default     = "Iceberg tables, kept by landfast."
  validation {
    condition     = length(var.description) <= 1024
    error_message = "At most 1,024 characters."
  }
}

variable "deletion_policy" {
  type        = string
  description = "What `terraform destroy` does to the catalog: PREVENT, DELETE or ABANDON."
  default     = "PREVENT"
  validation {
    condition     = contains(["PREVENT", "DELETE", "ABANDON"], var.deletion_policy)
    error_message = "The policy is PREVENT, DELETE or ABANDON."
  }
}

variable "editors" {
  type        = map(string)
  description = "Who writes tables, that is landfast's accounts: IAM members, by a name of your own."
  default     = {}
  validation {
    condition     = !anytrue([for member in values(var.editors) : contains(["allUsers", "allAuthenticatedUsers"], member)])
    error_message = "Nothing here is for everyone."
  }
}

variable "viewers" {
  type        = map(string)
  description = "Who reads tables: IAM members, by a name of your own."
  default     = {}
  validation {
    condition     = !anytrue([for member in values(var.viewers) : contains(["allUsers", "allAuthenticatedUsers"], member)])
    error_message = "Nothing here is for everyone."
  }
}
