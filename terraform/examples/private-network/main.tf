# No way to the internet: landfast leaves through a subnet whose only route is to Google's APIs, and everything is encrypted with a key
# of yours. Pub/Sub reaches the service from inside (INGRESS_TRAFFIC_INTERNAL_ONLY, the default).
resource "google_project_service" "network" {
  for_each = toset(["compute.googleapis.com", "dns.googleapis.com"])

  project            = var.project_id
  service            = each.value
  disable_on_destroy = false
}

# A call too soon after the first enablement is refused.
resource "time_sleep" "network" {
  create_duration = "60s"
  triggers        = { apis = join(",", sort([for api in google_project_service.network : api.service])) }
}

resource "google_compute_network" "this" {
  project                         = var.project_id
  name                            = "landfast"
  auto_create_subnetworks         = false
  delete_default_routes_on_create = true

  depends_on = [time_sleep.network]
}

resource "google_compute_subnetwork" "run" {
  project                  = var.project_id
  name                     = "landfast-run"
  region                   = var.region
  network                  = google_compute_network.this.id
  ip_cidr_range            = "10.8.0.0/26"
  private_ip_google_access = true

  log_config {
    aggregation_interval = "INTERVAL_10_MIN"
    flow_sampling        = 0.1
  }
}

locals {
  # private.googleapis.com takes all APIs; restricted.googleapis.com those that a perimeter can hold, and nothing outside of it.
  vips = {
    private    = { range = "199.36.153.8/30", addresses = ["199.36.153.8", "199.36.153.9", "199.36.153.10", "199.36.153.11"] }
    restricted = { range = "199.36.153.4/30", addresses = ["199.36.153.4", "199.36.153.5", "199.36.153.6", "199.36.153.7"] }
  }
  vip = local.vips[var.in_perimeter ? "restricted" : "private"]
}

resource "google_compute_route" "googleapis" {
  project          = var.project_id
  name             = "landfast-googleapis"
  network          = google_compute_network.this.name
  dest_range       = local.vip.range
  next_hop_gateway = "default-internet-gateway"
}

# Nothing leaves but to these addresses, and nothing comes in: Pub/Sub reaches the service by Cloud Run's own front.
resource "google_compute_firewall" "googleapis" {
  project            = var.project_id
  name               = "landfast-googleapis"
  network            = google_compute_network.this.name
  direction          = "EGRESS"
  priority           = 1000
  destination_ranges = [local.vip.range]

  allow {
    protocol = "tcp"
    ports    = ["443"]
  }
}

resource "google_compute_firewall" "nothing_else" {
  project            = var.project_id
  name               = "landfast-nothing-else"
  network            = google_compute_network.this.name
  direction          = "EGRESS"
  priority           = 65000
  destination_ranges = ["0.0.0.0/0"]

  deny {
    protocol = "all"
  }
}

# Waits with the network that it names.
resource "google_dns_managed_zone" "googleapis" {
  project    = var.project_id
  name       = "landfast-googleapis"
  dns_name   = "googleapis.com."
  visibility = "private"

  private_visibility_config {
    networks {
      network_url = google_compute_network.this.id
    }
  }
}

resource "google_dns_record_set" "vip" {
  project      = var.project_id
  managed_zone = google_dns_managed_zone.googleapis.name
  name         = "vip.googleapis.com."
  type         = "A"
  ttl          = 300
  rrdatas      = local.vip.addresses
}

resource "google_dns_record_set" "all" {
  project      = var.project_id
  managed_zone = google_dns_managed_zone.googleapis.name
  name         = "*.googleapis.com."
  type         = "CNAME"
  ttl          = 300
  rrdatas      = [google_dns_record_set.vip.name]
}

module "landfast" {
  source = "../.."

  project_id   = var.project_id
  region       = var.region
  image        = var.image
  kms_key_name = var.kms_key_name

  topics = { orders = {} }
  tables = { "shop.orders" = { from = [{ subscription = "orders-push" }] } }

  vpc_access = {
    network    = google_compute_network.this.id
    subnetwork = google_compute_subnetwork.run.id
    egress     = "ALL_TRAFFIC"
  }
}
