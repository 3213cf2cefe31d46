terraform {
  # As the root module wants it; the tests want 1.11.
  required_version = ">= 1.9"

  required_providers {
    google = {
      source = "hashicorp/google"
      # 7.41 knows catalogs of BigLake's own (CATALOG_TYPE_BIGLAKE); 8 changed nothing that is used here.
      version = ">= 7.41, < 9"
    }
    time = {
      source  = "hashicorp/time"
      version = ">= 0.9, < 1"
    }
  }
}

provider "google" {
  project = var.project_id
  region  = var.region
  # The IAM of a BigLake catalog wants to know which project is charged.
  user_project_override = true
  billing_project       = var.project_id
}
