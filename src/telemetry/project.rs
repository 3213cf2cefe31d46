//! The project in the names of traces. Cloud Run sets no variable for it, so its metadata server is asked there, once a line
//! is to name a trace; until it answered, a trace is named by its id alone.

use std::sync::{Arc, OnceLock};

use tokio::runtime::Handle;

use super::Seldom;
use crate::config::Platform;
use crate::google::project_of_machine;

/// The project of the process, as far as it is known.
#[derive(Debug)]
pub(super) struct Project {
    id: Arc<OnceLock<String>>,
    metadata_host: Option<String>,
    /// Asked again a minute later, where no answer came.
    asked: Seldom,
}

impl Project {
    pub(super) fn of(platform: &Platform) -> Self {
        let id = platform.project.clone().map(OnceLock::from);
        Self {
            id: Arc::new(id.unwrap_or_default()),
            metadata_host: platform.metadata_host.clone(),
            asked: Seldom::default(),
        }
    }

    /// What stands before a trace's id: `projects/P/traces/`, or nothing yet. Never waits.
    pub(super) fn traces(&self) -> String {
        if let Some(id) = self.id.get() {
            return format!("projects/{id}/traces/");
        }
        if let (Some(host), Ok(runtime)) = (&self.metadata_host, Handle::try_current())
            && self.asked.tell("project").is_some()
        {
            let (id, host) = (self.id.clone(), host.clone());
            runtime.spawn(async move {
                if let Some(project) = project_of_machine(&host).await {
                    id.get_or_init(|| project);
                }
            });
        }
        String::new()
    }
}
