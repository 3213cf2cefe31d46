variable "project_id" {
  type        = string
  description = "The project: it exists, and has billing."
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project_id))
    error_message = "A project id has 6 to 30 lower-case letters, digits and hyphens, and begins with a letter."
  }
}

variable "region" {
  type        = string
  description = "Where everything is."
  default     = "europe-west1"
  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "A region is called as europe-west1 is."
  }
}

variable "image" {
  type        = string
  description = "The image of landfast: REGION-docker.pkg.dev/P/R/landfast:VERSION, or by its digest."
  validation {
    condition     = can(regex("^[a-z0-9.:-]+/.+[:@].+$", var.image)) && !endswith(var.image, ":latest")
    error_message = "An image has a host, a path, and a tag or digest other than latest."
  }
}

variable "kms_key_name" {
  type        = string
  description = "A key in region, projects/P/locations/L/keyRings/R/cryptoKeys/K."
  validation {
    condition     = can(regex("^projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+$", var.kms_key_name))
    error_message = "A key is named projects/P/locations/L/keyRings/R/cryptoKeys/K."
  }
}

variable "in_perimeter" {
  type        = bool
  description = "Whether the project is in a perimeter of VPC Service Controls: APIs are then reached by restricted.googleapis.com, and landfast's by those that the perimeter holds (run, pubsub, storage, biglake, secretmanager, cloudkms)."
  default     = false
  validation {
    condition     = contains([true, false], var.in_perimeter)
    error_message = "true or false."
  }
}
