resource "google_cloud_run_v2_service" "this" {
  project              = var.project_id
  name                 = var.name
  location             = var.location
  labels               = var.labels
  ingress              = var.ingress
  invoker_iam_disabled = false
  # Google's default is true, and then a changed name or region cannot be applied.
  deletion_protection = var.deletion_protection

  template {
    service_account                  = var.service_account_email
    timeout                          = "${var.timeout_seconds}s"
    max_instance_request_concurrency = var.max_instance_request_concurrency
    execution_environment            = "EXECUTION_ENVIRONMENT_GEN2"
    encryption_key                   = var.kms_key_name
    labels                           = var.labels

    scaling {
      min_instance_count = var.min_instance_count
      max_instance_count = var.max_instance_count
    }

    containers {
      name       = "landfast"
      image      = var.image
      args       = ["serve", "--config", "/etc/landfast/landfast.yaml", "--log", "stackdriver"]
      depends_on = var.cloud_sql_proxy == null ? null : ["cloud-sql-proxy"]

      ports {
        container_port = 8080
      }

      resources {
        limits            = { cpu = var.cpu, memory = var.memory }
        cpu_idle          = var.cpu_idle
        startup_cpu_boost = true
      }

      startup_probe {
        http_get {
          path = "/health/ready"
        }
        period_seconds    = 1
        timeout_seconds   = 1
        failure_threshold = 60
      }

      liveness_probe {
        http_get {
          path = "/health/live"
        }
        period_seconds    = 10
        timeout_seconds   = 5
        failure_threshold = 3
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
          limits   = { cpu = "1", memory = "512Mi" }
          cpu_idle = var.cpu_idle
        }

        startup_probe {
          http_get {
            path = "/startup"
            port = 9801
          }
          period_seconds    = 1
          failure_threshold = 30
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
        name       = "metrics"
        image      = containers.value.image
        args       = ["--config=/etc/otelcol-google/config.yaml"]
        depends_on = ["landfast"]

        resources {
          limits   = { cpu = "1", memory = "512Mi" }
          cpu_idle = var.cpu_idle
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

# Request logs of what went well cost more than all the rest: 1 KB a push. Failures are kept.
resource "google_logging_project_exclusion" "requests" {
  count = var.exclude_successful_request_logs ? 1 : 0

  project     = var.project_id
  name        = "${var.name}-${var.location}-requests"
  description = "Successful requests to ${var.name}."
  filter      = <<-EOT
    resource.type="cloud_run_revision"
    resource.labels.service_name="${var.name}"
    resource.labels.location="${var.location}"
    log_id("run.googleapis.com/requests")
    httpRequest.status<400
  EOT
}
