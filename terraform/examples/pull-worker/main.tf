# Clicks, more than pushes carry: a worker pulls them. Orders beside them are pushed, so that nothing of theirs stays on.
module "landfast" {
  source = "../.."

  project_id = var.project_id
  region     = var.region
  image      = var.image

  topics = {
    clicks = { push = false, pull = true }
    orders = {}
  }

  tables = {
    "web.clicks" = {
      from         = [{ subscription = "clicks-pull" }]
      schema       = [{ name = "at", type = "timestamptz", required = true }, { name = "user", type = "string" }, { name = "url", type = "string" }]
      partition_by = ["day(at)"]
    }
    "shop.orders" = { from = [{ subscription = "orders-push" }] }
  }

  worker_cpu            = "2"
  worker_instance_count = 1

  # A secret that is there, for /metrics (README).
  api_token_secret = "landfast-token"

  force_destroy = true
}
