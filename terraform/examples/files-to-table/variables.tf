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
