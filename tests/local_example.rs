//! The first example of Terraform on a machine without a cloud, by the script that people are told to run.

use std::process::{Command, Stdio};

use libtest_mimic::Trial;

use crate::support::{Component, TestResult, needs, trials};

pub fn tests() -> Vec<Trial> {
    trials![orders_land_as_terraform_configures_them]
}

async fn orders_land_as_terraform_configures_them() -> TestResult {
    // The script starts an emulator of its own.
    needs(Component::PubSub)?;
    let output = Command::new("examples/local/run")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("LANDFAST", env!("CARGO_BIN_EXE_landfast"))
        .stdin(Stdio::null())
        .output()?;
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    assert!(out.contains("21 messages, 20 rows, 1 dead letter, in "), "{out}");
    // Those of the configuration that Terraform renders.
    for text in ["decimal(12,2)", "lines", "day", "at"] {
        assert!(out.contains(text), "{text}: {out}");
    }
    if needs(Component::Python).is_ok() {
        assert!(out.contains("190.00"), "DuckDB sums the totals: {out}");
    }
    Ok(())
}
