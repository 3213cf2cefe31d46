resource "google_cloud_run_v2_worker_pool" "this" {
  project             = var.project_id
  name                = var.name
  location            = var.location
  labels              = var.labels
  deletion_protection = var.deletion_protection

  scaling {
    scaling_mode          = "MANUAL"
    manual_instance_count = var.instance_count
  }

  template {
    service_account = var.service_account_email
    encryption_key  = var.kms_key_name
    labels          = var.labels

    containers {
      name  = "landfast"
      image = var.image
      args = concat(
        ["pull", "--config", "/etc/landfast/landfast.yaml", "--log", "stackdriver", "--project", var.project_id],
        flatten([for subscription in var.subscriptions : ["--subscription", subscription]]),
      )

      resources {
        limits = { cpu = var.cpu, memory = var.memory }
      }

      dynamic "env" {
        for_each = merge({ GOOGLE_CLOUD_PROJECT = var.project_id }, var.environment)
        content {
          name  = env.key
          value = env.value
        }
      }

      dynamic "env" {
        for_each = var.secret_environment
        content {
          name = env.key
          value_source {
            secret_key_ref {
              secret  = env.value.secret
              version = env.value.version
            }
          }
        }
      }

      volume_mounts {
        name       = "config"
        mount_path = "/etc/landfast"
      }

      dynamic "volume_mounts" {
        for_each = var.cloud_sql_proxy == null ? [] : [true]
        content {
          name       = "cloudsql"
          mount_path = "/cloudsql"
        }
      }
    }

    # Logs in as the service's account and renews its token, which a password in the configuration could not.
    dynamic "containers" {
      for_each = var.cloud_sql_proxy == null ? [] : [var.cloud_sql_proxy]
      content {
        name  = "cloud-sql-proxy"
        image = containers.value.image
        args = concat(
          ["--auto-iam-authn", "--structured-logs", "--unix-socket=/cloudsql", "--health-check", "--http-address=0.0.0.0", "--http-port=9801"],
          containers.value.private_ip ? ["--private-ip"] : [],
          [containers.value.instance_connection_name],
        )

        resources {
          limits = { cpu = "1", memory = "512Mi" }
        }

        volume_mounts {
          name       = "cloudsql"
          mount_path = "/cloudsql"
        }
      }
    }

    # Scrapes /metrics with the token of api_auth and writes to Managed Service for Prometheus.
    dynamic "containers" {
      for_each = var.metrics_collector == null ? [] : [var.metrics_collector]
      content {
        name  = "metrics"
        image = containers.value.image
        args  = ["--config=/etc/otelcol-google/config.yaml"]

        resources {
          limits = { cpu = "1", memory = "512Mi" }
        }

        volume_mounts {
          name       = "metrics-config"
          mount_path = "/etc/otelcol-google"
        }

        volume_mounts {
          name       = "metrics-token"
          mount_path = "/etc/landfast-token"
        }
      }
    }

    volumes {
      name = "config"
      secret {
        secret = var.config_secret
        items {
          version = var.config_version
          path    = "landfast.yaml"
        }
      }
    }

    dynamic "volumes" {
      for_each = var.cloud_sql_proxy == null ? [] : [true]
      content {
        name = "cloudsql"
        empty_dir {
          medium     = "MEMORY"
          size_limit = "1Mi"
        }
      }
    }

    dynamic "volumes" {
      for_each = var.metrics_collector == null ? [] : [var.metrics_collector]
      content {
        name = "metrics-config"
        secret {
          secret = volumes.value.config_secret
          items {
            version = volumes.value.config_version
            path    = "config.yaml"
          }
        }
      }
    }

    dynamic "volumes" {
      for_each = var.metrics_collector == null ? [] : [var.metrics_collector]
      content {
        name = "metrics-token"
        secret {
          secret = volumes.value.token_secret
          items {
            version = volumes.value.token_version
            path    = "token"
          }
        }
      }
    }

    dynamic "vpc_access" {
      for_each = var.vpc_access == null ? [] : [var.vpc_access]
      content {
        egress = vpc_access.value.egress
        network_interfaces {
          network    = vpc_access.value.network
          subnetwork = vpc_access.value.subnetwork
          tags       = vpc_access.value.tags
        }
      }
    }
  }

  lifecycle {
    # What gcloud and the console write about themselves when somebody rolls a revision back.
    ignore_changes = [client, client_version]
  }
}
