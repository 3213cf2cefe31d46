# Google's answers, as far as a test looks at them.
mock_data "google_project" {
  override_during = plan
  defaults        = { number = "1234567890" }
}
