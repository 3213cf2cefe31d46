//! Which project the process runs in, as the machine's metadata server tells.

use std::time::Duration;

use reqwest::redirect;

/// How long the metadata server has; it is on the machine.
const PATIENCE: Duration = Duration::from_secs(2);

const PATH: &str = "computeMetadata/v1/project/project-id";

/// Asks the metadata server at a host for the project's id; `None` where it gives none.
pub(crate) async fn project_of_machine(host: &str) -> Option<String> {
    let http = reqwest::Client::builder()
        .no_proxy()
        .timeout(PATIENCE)
        .redirect(redirect::Policy::none())
        .build()
        .ok()?;
    let asking = http.get(format!("http://{host}/{PATH}"));
    let answer = asking.header("Metadata-Flavor", "Google").send().await.ok()?;
    let text = answer.error_for_status().ok()?.text().await.ok()?;
    let letters = |letter: char| letter.is_ascii_alphanumeric() || "-:.".contains(letter);
    let is_id = !text.is_empty() && text.len() <= 100 && text.chars().all(letters);
    is_id.then_some(text)
}
