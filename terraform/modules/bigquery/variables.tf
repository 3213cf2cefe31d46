variable "project_id" {
  type        = string
  description = "The project of everything here."
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project_id))
    error_message = "A project id has 6 to 30 lower-case letters, digits and hyphens, and begins with a letter."
  }
}

variable "dataset_id" {
  type        = string
  description = "The dataset of the external tables."
  validation {
    condition     = can(regex("^[A-Za-z0-9_]+$", var.dataset_id)) && length(var.dataset_id) <= 1024
    error_message = "A dataset's name has letters, digits and underscores."
  }
}

variable "connection_id" {
  type        = string
  description = "The connection's name."
  default     = "landfast"
  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,60}$", var.connection_id))
    error_message = "A connection's name has letters, digits, hyphens and underscores."
  }
}

variable "location" {
  type        = string
  description = "Where dataset and connection are: where the bucket is."
  validation {
    condition     = can(regex("^([a-zA-Z]+-[a-zA-Z]+[0-9]+|EU|US|eu|us)$", var.location))
    error_message = "A location of BigQuery is a region such as europe-west1, or EU, US."
  }
}

variable "connection_location" {
  type        = string
  description = "Where the connection is, if it is said; another place than the dataset's is refused."
  default     = null
  validation {
    condition     = var.connection_location == null || can(regex("^([a-zA-Z]+-[a-zA-Z]+[0-9]+|EU|US|eu|us)$", var.connection_location))
    error_message = "A location of BigQuery is a region such as europe-west1, or EU, US."
  }
}

variable "warehouse_bucket" {
  type        = string
  description = "The bucket of the warehouse, which the connection's account reads."
  validation {
    condition     = !startswith(var.warehouse_bucket, "gs://")
    error_message = "The bucket's name, without gs://."
  }
}

variable "warehouse_location" {
  type        = string
  description = "Where that bucket is; another place than the dataset's is refused."
  validation {
    condition     = length(var.warehouse_location) > 1
    error_message = "Say where the bucket is."
  }
}

variable "description" {
  type        = string
  description = "The dataset's description."
  default     = "Iceberg tables, kept by landfast."
  validation {
    condition     = length(var.description) <= 16384
    error_message = "At most 16,384 characters."
  }
}

variable "delete_contents_on_destroy" {
  type        = bool
  description = "Whether `terraform destroy` deletes the dataset with its external tables. Their files are in the bucket all the same."
  default     = false
  nullable    = false
  validation {
    condition     = contains([true, false], var.delete_contents_on_destroy)
    error_message = "true or false."
  }
}

variable "create_custom_role" {
  type        = bool
  description = "Whether a role is made that holds bigquery.connections.delegate alone, which wants iam.roles.create on the project. False grants roles/bigquery.connectionAdmin on the connection."
  default     = true
  nullable    = false
  validation {
    condition     = contains([true, false], var.create_custom_role)
    error_message = "true or false."
  }
}

variable "publishers" {
  type        = map(string)
  description = "Who publishes, that is landfast's accounts: IAM members, by a name of your own."
  default     = {}
  validation {
    condition     = !anytrue([for member in values(var.publishers) : contains(["allUsers", "allAuthenticatedUsers"], member)])
    error_message = "Nothing here is for everyone."
  }
}

variable "readers" {
  type        = map(string)
  description = "Who may read all tables of the dataset: IAM members, by a name of your own."
  default     = {}
  validation {
    condition     = !anytrue([for member in values(var.readers) : contains(["allUsers", "allAuthenticatedUsers"], member)])
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

