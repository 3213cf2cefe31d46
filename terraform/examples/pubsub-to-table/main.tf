# Orders from a topic to a table of BigLake's catalog, which BigQuery reads as PROJECT.lake.shop.orders.
module "landfast" {
  source = "../.."

  project_id = var.project_id
  region     = var.region
  image      = var.image

  # The topic `orders`, with the subscription `orders-push`.
  topics = { orders = {} }

  tables = {
    "shop.orders" = {
      from = [{ subscription = "orders-push" }]
      schema = [
        { name = "id", type = "long", required = true, doc = "Order number" },
        { name = "at", type = "timestamptz" },
        { name = "total", type = "decimal(12,2)" },
        { name = "lines", type = "list<struct<sku: string required, n: int>>" },
      ]
      partition_by = ["day(at)"]
    }
  }

  # For trials: `terraform destroy` takes everything along.
  force_destroy = true
}
