variable "project_id" {
  type        = string
  description = "The project of the secret."
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project_id))
    error_message = "A project id has 6 to 30 lower-case letters, digits and hyphens, and begins with a letter."
  }
}

variable "secret_id" {
  type        = string
  description = "The secret's name."
  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,255}$", var.secret_id))
    error_message = "A secret's name has up to 255 letters, digits, hyphens and underscores."
  }
}

variable "content" {
  type        = string
  description = "The file."
  validation {
    condition     = length(var.content) > 0 && length(var.content) <= 65536
    error_message = "A secret holds 1 byte to 64 KiB."
  }
}

variable "accessors" {
  type        = map(string)
  description = "Who may read it: IAM members, by a name of your own."
  default     = {}
  validation {
    condition     = !anytrue([for member in values(var.accessors) : contains(["allUsers", "allAuthenticatedUsers"], member)])
    error_message = "A configuration is not for everyone."
  }
}

variable "location" {
  type        = string
  description = "Where it lies if kms_key_name is set, such as europe-west1; else Google replicates it."
  default     = null
  validation {
    condition     = var.location != null || var.kms_key_name == null
    error_message = "With kms_key_name, say the location of the key."
  }
}

variable "kms_key_name" {
  type        = string
  description = "A key of yours that encrypts it: projects/P/locations/L/keyRings/R/cryptoKeys/K."
  default     = null
  validation {
    condition     = var.kms_key_name == null || can(regex("^projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+$", var.kms_key_name))
    error_message = "A key is named projects/P/locations/L/keyRings/R/cryptoKeys/K."
  }
}

variable "labels" {
  type        = map(string)
  description = "Labels of the secret."
  default     = {}
  validation {
    condition     = alltrue([for key in keys(var.labels) : can(regex("^[a-z][a-z0-9_-]{0,62}$", key))])
    error_message = "A label's key has up to 63 lower-case letters, digits, hyphens and underscores, and begins with a letter."
  }
}
