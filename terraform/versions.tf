terraform {
  # Validations that look at other variables want 1.9; the tests want 1.11.
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
