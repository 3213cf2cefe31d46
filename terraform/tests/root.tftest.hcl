# The whole thing, as a user plans it. Emails and numbers that Google would give stand in override blocks.
mock_provider "google" {
  source = "./tests/mocks"
}
mock_provider "time" {}

override_resource {
  target          = google_service_account.this["service"]
  override_during = plan
  values          = { email = "landfast-service@acme-data.iam.gserviceaccount.com", name = "projects/acme-data/serviceAccounts/landfast-service@acme-data.iam.gserviceaccount.com" }
}
override_resource {
  target          = google_service_account.this["push"]
  override_during = plan
  values          = { email = "landfast-push@acme-data.iam.gserviceaccount.com", name = "projects/acme-data/serviceAccounts/landfast-push@acme-data.iam.gserviceaccount.com" }
}
override_resource {
  target          = google_service_account.this["scheduler"]
  override_during = plan
  values          = { email = "landfast-scheduler@acme-data.iam.gserviceaccount.com", name = "projects/acme-data/serviceAccounts/landfast-scheduler@acme-data.iam.gserviceaccount.com" }
}
override_resource {
  target          = google_service_account.this["maintain"]
  override_during = plan
  values          = { email = "landfast-maintain@acme-data.iam.gserviceaccount.com", name = "projects/acme-data/serviceAccounts/landfast-maintain@acme-data.iam.gserviceaccount.com" }
}

variables {
  project_id = "acme-data"
  region     = "europe-west1"
  image      = "europe-west1-docker.pkg.dev/acme-data/images/landfast:1.2.3"
  topics     = { orders = {} }
  tables = {
    "shop.orders" = {
      from   = [{ subscription = "orders-push" }]
      schema = [{ name = "id", type = "long", required = true }, { name = "total", type = "decimal(12,2)" }]
    }
  }
}

run "messages_to_a_table_of_biglake" {
  command = plan

  assert {
    condition     = output.subscription_names == tolist(["orders-push"]) && output.catalog == "bl://projects/acme-data/catalogs/lake" && output.bigquery_tables == { "shop.orders" = "acme-data.lake.shop.orders" }
    error_message = "Subscriptions, catalog or tables are called otherwise."
  }
  assert {
    condition     = toset(keys(output.config_files)) == toset(["service", "maintenance"])
    error_message = "There are other processes: ${join(", ", keys(output.config_files))}."
  }
  assert {
    condition = yamldecode(output.config_files["service"]) == {
      warehouse    = "gs://acme-data-landfast-warehouse/warehouse"
      catalog      = { type = "biglake", warehouse = "bl://projects/acme-data/catalogs/lake", user_project = "acme-data" }
      dead_letters = "gs://acme-data-landfast-dead-letters/dead-letters"
      defaults     = { ledger = { retention = "8d" } }
      tables       = { "shop.orders" = { from = [{ subscription = "orders-push" }], schema = [{ name = "id", type = "long", required = true }, { name = "total", type = "decimal(12,2)" }] } }
      server       = { push_auth = "off", ack_deadline = "60s", max_in_flight_requests = 1000, max_in_flight_bytes = "256MiB", cpu_idle = false, status_page = "protected" }
    }
    error_message = "The service's configuration is another:\n${output.config_files["service"]}"
  }
  assert {
    condition     = google_service_account_iam_member.pubsub_token_creator.role == "roles/iam.serviceAccountOpenIdTokenCreator" && google_service_account_iam_member.pubsub_token_creator.service_account_id == "projects/acme-data/serviceAccounts/landfast-push@acme-data.iam.gserviceaccount.com" && google_service_account_iam_member.pubsub_token_creator.member == "serviceAccount:service-1234567890@gcp-sa-pubsub.iam.gserviceaccount.com"
    error_message = "Pub/Sub's agent may not sign pushes, or may for another account."
  }
  assert {
    condition     = alltrue([for api in ["biglake", "pubsub", "run", "secretmanager", "cloudscheduler"] : contains(keys(google_project_service.apis), "${api}.googleapis.com")]) && alltrue([for api in values(google_project_service.apis) : !api.disable_on_destroy])
    error_message = "An API is not turned on, or would be turned off for others."
  }
  assert {
    condition     = time_sleep.apis[0].create_duration == "60s" && time_sleep.grants.create_duration == "120s"
    error_message = "Nobody waits for the APIs, or for the grants."
  }
  assert {
    condition     = toset(keys(output.service_account_emails)) == toset(["maintain", "push", "scheduler", "service"]) && length(distinct(values(output.service_account_emails))) == 4
    error_message = "Accounts are shared."
  }
  assert {
    condition     = output.service_name == "landfast" && output.objects_service_name == null && output.worker_pool_name == null && output.job_names == { check = "landfast-check", maintain = "landfast-maintain", run = "landfast-run" }
    error_message = "There is more, or less, than a service and three jobs."
  }
  assert {
    condition     = strcontains(output.check_command, "job=landfast-check project=acme-data region=europe-west1\n") && strcontains(output.run_command, "job=landfast-run project=acme-data region=europe-west1\n") && output.status_page_command == null
    error_message = "A command is started elsewhere, or a page shown that nobody gets to."
  }
}

run "everything_at_once" {
  command = plan

  variables {
    topics           = { orders = { pull = true, publishers = { shop = "serviceAccount:shop@acme-data.iam.gserviceaccount.com" } }, audit = { create = false, name = "audit-log" } }
    landings         = { landing = {}, drop = { transport = "eventarc" } }
    api_token_secret = "landfast-token"
    tables = {
      "shop.orders" = { from = [{ subscription = "orders-push" }, { subscription = "orders-pull" }] }
      "shop.files"  = { from = [{ bucket = "acme-data-landing", objects = "files/**" }], after = "move" }
      "audit.raw"   = { from = [{ subscription = "audit-push" }], schema = "envelope" }
    }
    routes          = [{ bucket = "acme-data-drop", table = "landing.{folder}" }]
    verify_schedule = "17 5 * * 0"
    worker_memory   = "4096Mi"
    status_page     = "open"
    service_ingress = "INGRESS_TRAFFIC_ALL"
  }
  assert {
    condition     = yamldecode(output.config_files["worker"]).server.max_in_flight_bytes == "1024MiB" && yamldecode(output.config_files["objects"]).server.max_in_flight_bytes == "512MiB"
    error_message = "More, or less, than a quarter of the memory is held."
  }
  assert {
    condition     = yamldecode(output.config_files["service"]).server.status_page == "open" && output.status_page_command == "gcloud run services proxy landfast --project=acme-data --region=europe-west1 --port=8080"
    error_message = "The page stays closed, or nobody is told how to get there."
  }
  assert {
    condition     = output.subscription_names == tolist(["audit-push", "landfast-landing-push", "orders-pull", "orders-push"])
    error_message = "There are other subscriptions: ${join(", ", output.subscription_names)}."
  }
  assert {
    condition     = yamldecode(output.config_files["service"]).sources == { orders = { subscriptions = ["orders-push", "orders-pull"] } }
    error_message = "A message that is pushed and pulled would count twice."
  }
  assert {
    condition     = yamldecode(output.config_files["service"]).server.api_auth.bearer == "$${API_TOKEN}"
    error_message = "The token is not taken from the environment."
  }
  assert {
    condition     = yamldecode(output.config_files["objects"]).server.ack_deadline == "600s" && yamldecode(output.config_files["objects"]).server.max_in_flight_requests == 4
    error_message = "The service for objects has the sizing of the one for messages."
  }
  assert {
    condition     = yamldecode(output.config_files["worker"]).server.max_in_flight_requests == 50000
    error_message = "The worker has the sizing of the service."
  }
  assert {
    condition     = output.landing_urls == { landing = "gs://acme-data-landing", drop = "gs://acme-data-drop" } && output.objects_service_name == "landfast-objects" && output.worker_pool_name == "landfast-worker" && output.job_names == { check = "landfast-check", maintain = "landfast-maintain", run = "landfast-run", verify = "landfast-verify" }
    error_message = "Something is missing, or called otherwise."
  }
  assert {
    condition     = length(google_project_iam_member.metric_writer) == 1
    error_message = "landfast's metrics are not collected."
  }
  assert {
    condition     = yamldecode(output.config_files["maintenance"]).server == { push_auth = "off", ack_deadline = "600s" }
    error_message = "The jobs want a token that they have no use for."
  }
  assert {
    condition     = contains(keys(google_project_service.apis), "eventarc.googleapis.com")
    error_message = "Eventarc's API is not turned on."
  }
}

run "letters_to_a_topic_and_a_check_without_a_service" {
  command = plan

  variables {
    topics               = {}
    landings             = { landing = {}, drop = {} }
    dead_letters_topic   = "projects/acme-ops/topics/letters"
    maintenance_schedule = null
    verify_schedule      = "17 5 * * 0"
    secret_environment   = { SOME_KEY = "some-key" }
    tables               = { "shop.orders" = { from = [{ bucket = "acme-data-landing" }], after = "delete" }, "shop.drops" = { from = [{ bucket = "acme-data-drop" }] } }
  }
  assert {
    condition     = yamldecode(output.config_files["objects"]).dead_letters == { topic = "projects/acme-ops/topics/letters", before = "gs://acme-data-landfast-dead-letters/dead-letters" } && output.dead_letters == "projects/acme-ops/topics/letters"
    error_message = "Letters go elsewhere, or what waited in the bucket is forgotten."
  }
  assert {
    condition     = toset(keys(google_pubsub_topic_iam_member.letters)) == toset(["service", "maintain"]) && google_pubsub_topic_iam_member.letters["service"].role == "roles/pubsub.publisher" && google_pubsub_topic_iam_member.letters["service"].project == "acme-ops"
    error_message = "Letters may not be published."
  }
  assert {
    condition     = output.job_names == { check = "landfast-check", run = "landfast-run", verify = "landfast-verify" } && google_secret_manager_secret_iam_member.maintain_environment["some-key"].role == "roles/secretmanager.secretAccessor"
    error_message = "verify does not run by itself, or cannot read what it starts with."
  }
}

run "defaults_are_completed" {
  command = plan

  variables {
    catalog_type = "storage"
    bigquery     = { dataset_id = "shop" }
    defaults     = { batch = { commit_interval = "10s" }, ledger = {}, publish = { bigquery = { project = "acme-bi" } } }
  }
  assert {
    condition     = yamldecode(output.config_files["service"]).defaults == { batch = { commit_interval = "10s" }, ledger = { retention = "8d" }, publish = { bigquery = { project = "acme-bi", dataset = "shop", connection = "europe-west1.landfast" } } }
    error_message = "A key of yours takes its neighbours away:\n${output.config_files["service"]}"
  }
}

run "external_tables_over_a_storage_catalog" {
  command = plan

  variables {
    catalog_type    = "storage"
    bucket_location = "EU"
    bigquery        = { dataset_id = "shop" }
  }
  assert {
    condition     = yamldecode(output.config_files["service"]).catalog == { type = "storage" } && yamldecode(output.config_files["service"]).defaults.publish.bigquery == { project = "acme-data", dataset = "shop", connection = "eu.landfast" } && yamldecode(output.config_files["service"]).tables["shop.orders"].publish == { bigquery = {} }
    error_message = "The tables are not published."
  }
  assert {
    condition     = output.catalog == null && output.bigquery_tables == { "shop.orders" = "acme-data.shop.orders" }
    error_message = "The outputs name something else."
  }
}

run "a_catalog_in_cloud_sql" {
  command = plan

  variables {
    catalog_type = "sql"
    cloud_sql    = { instance_name = "lake", instance_connection_name = "acme-data:europe-west1:lake" }
  }
  assert {
    condition     = yamldecode(output.config_files["service"]).catalog == { type = "sql", name = "lake", uri = "postgresql://landfast-service%40acme-data.iam@localhost/iceberg?host=/cloudsql/acme-data:europe-west1:lake" }
    error_message = "The catalog is another:\n${output.config_files["service"]}"
  }
  assert {
    condition     = !contains(keys(output.service_account_emails), "maintain") && output.job_names["maintain"] == "landfast-maintain"
    error_message = "Jobs run as an account that does not own the catalog's tables."
  }
  assert {
    condition     = google_sql_user.service[0].type == "CLOUD_IAM_SERVICE_ACCOUNT" && google_sql_user.service[0].name == "landfast-service@acme-data.iam"
    error_message = "The account does not log in by IAM."
  }
  assert {
    condition     = google_project_iam_member.sql_client[0].role == "roles/cloudsql.client" && google_project_iam_member.sql_user[0].role == "roles/cloudsql.instanceUser" && alltrue([for one in [google_project_iam_member.sql_client[0], google_project_iam_member.sql_user[0]] : strcontains(one.condition[0].expression, "projects/acme-data/instances/lake")])
    error_message = "The account may reach other instances, or not this one."
  }
}

run "a_key_of_yours" {
  command = plan

  variables {
    kms_key_name = "projects/acme-keys/locations/europe-west1/keyRings/lake/cryptoKeys/landfast"
  }
  assert {
    condition     = toset(keys(google_kms_crypto_key_iam_member.agents)) == toset(["pubsub", "run", "secretmanager", "storage"])
    error_message = "Other agents use the key."
  }
}

run "a_topic_that_waits" {
  command = plan

  variables {
    topics                      = { orders = { paused = true }, clicks = {} }
    maintenance_schedule        = null
    service_max_in_flight_bytes = "100MiB"
  }
  # planned/a_topic_that_waits.txt has one endpoint, that of the other topic.
  assert {
    condition     = output.run_command == null && yamldecode(output.config_files["service"]).server.max_in_flight_bytes == "100MiB"
    error_message = "A command has no job to run in, or a size is not taken."
  }
}
