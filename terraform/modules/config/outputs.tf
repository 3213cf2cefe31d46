output "secret_id" {
  description = "The secret's name, for a volume of Cloud Run."
  value       = google_secret_manager_secret.this.secret_id
  # Whoever mounts it may not start before it can be read.
  depends_on = [google_secret_manager_secret_iam_member.accessors]
}

output "version" {
  description = "The version to mount: another content is another version, and so another revision."
  value       = google_secret_manager_secret_version.this.version
}
