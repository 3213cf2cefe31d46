locals {
  scheduled = { for command, schedule in { maintain = var.schedule, verify = var.verify_schedule } : command => schedule if schedule != null }
  arguments = merge(
    { for command in keys(local.scheduled) : command => ["--output", "json"] },
    # Read by a person, once: a line of the log for each probe.
    { for command in ["check"] : command => ["--project", var.project_id] if var.check },
    # Started with other arguments than these, which do nothing.
    { for command in ["run"] : command => [] if var.run },
  )
}

resource "google_cloud_run_v2_job" "this" {
  for_each = local.arguments

  project             = var.project_id
  name                = "${var.name}-${each.key}"
  location            = var.location
  labels              = var.labels
  deletion_protection = var.deletion_protection

  template {
    task_count  = 1
    parallelism = 1
    labels      = var.labels

    template {
      service_account       = var.service_account_email
      timeout               = each.key == "run" ? "86400s" : "${var.timeout_seconds}s"
      execution_environment = "EXECUTION_ENVIRONMENT_GEN2"
      encryption_key        = var.kms_key_name
      # The next day's run does what this one left, and a table that fails fails again.
      max_retries = 0

      containers {
        name       = "landfast"
        image      = var.image
        args       = each.key == "run" ? ["version"] : concat([each.key, "--config", "/etc/landfast/landfast.yaml", "--log", "stackdriver"], each.value)
        depends_on = var.cloud_sql_proxy == null ? null : ["cloud-sql-proxy"]

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
  }

  lifecycle {
    # What gcloud and the console write about themselves when somebody rolls a revision back.
    ignore_changes = [client, client_version]
  }
}

resource "google_cloud_scheduler_job" "this" {
  for_each = local.scheduled

  project          = var.project_id
  name             = "${var.name}-${each.key}"
  region           = coalesce(var.scheduler_location, var.location)
  description      = "Starts the job ${var.name}-${each.key}."
  schedule         = each.value
  time_zone        = var.time_zone
  attempt_deadline = "60s"

  retry_config {
    retry_count = 3
  }

  http_target {
    http_method = "POST"
    uri         = "https://run.googleapis.com/v2/projects/${var.project_id}/locations/${var.location}/jobs/${google_cloud_run_v2_job.this[each.key].name}:run"

    # An access token, not an identity token: it is Google's API that is called.
    oauth_token {
      service_account_email = var.scheduler_service_account_email
    }
  }
}
