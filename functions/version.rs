//! `landfast version`: which landfast this is.

use std::process::ExitCode;

use landfast::version::{COMMIT, TARGET, UNKNOWN, VERSION, date};
use serde_json::json;

use crate::output::{OutputFormat, failed, tell};

/// Prints version, commit, build date and target.
pub fn run(output: OutputFormat) -> ExitCode {
    let date = date();
    let page = match output {
        OutputFormat::Json => {
            json!({ "version": VERSION, "commit": COMMIT, "date": date, "target": TARGET }).to_string()
        }
        OutputFormat::Text => format!(
            "landfast {VERSION}\ncommit   {}\ndate     {}\ntarget   {TARGET}",
            COMMIT.unwrap_or(UNKNOWN),
            date.as_deref().unwrap_or(UNKNOWN),
        ),
    };
    match tell(&page) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}
