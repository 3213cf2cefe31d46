# Files that are dropped into a bucket, to tables of BigLake's catalog: orders by their folder, every other folder by its name.
module "landfast" {
  source = "../.."

  project_id = var.project_id
  region     = var.region
  image      = var.image

  # The bucket PROJECT-landing, whose notifications come by the subscription landfast-landing-push.
  landings = { landing = { delete_after_days = 90 } }

  tables = {
    "shop.orders" = {
      from   = [{ bucket = "${var.project_id}-landing", objects = "orders/**" }]
      after  = "move"
      schema = [{ name = "id", type = "long", required = true }, { name = "at", type = "timestamptz" }, { name = "total", type = "decimal(12,2)" }]
    }
  }
  routes = [{ bucket = "${var.project_id}-landing", table = "landing.{folder}" }]

  force_destroy = true
}
