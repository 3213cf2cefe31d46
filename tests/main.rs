//! The one integration binary. `tests/run` runs it with everything it needs; `cargo test` alone ignores, with the
//! reason, what needs more than this machine's Rust.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test's broken assumption is its failure"
)]

mod agree;
mod batch;
mod by_record;
mod catalog;
mod check;
mod commit;
mod connections;
mod docs_commands;
mod events_named;
mod fakes;
mod fire;
mod foreign;
mod freshness;
mod google;
mod house;
mod landing;
mod landing_folder;
mod letter_topic;
mod live;
mod load;
mod local_example;
mod maintenance;
mod metrics_page;
mod objects;
mod output;
mod publish;
mod pull;
mod push_auth;
mod records;
mod refusals;
mod replay;
mod rest;
mod retention;
mod schema;
mod shutdown;
mod simulation;
mod sql;
mod status_page;
mod storage_faults;
mod stores;
mod support;
mod surface;
mod tidy;
mod traces;
mod types;
mod version;
mod write;

use std::process::ExitCode;

use libtest_mimic::{Arguments, run};

fn main() -> ExitCode {
    let tests = [
        house::tests(),
        tidy::tests(),
        types::tests(),
        landing::tests(),
        landing_folder::tests(),
        load::tests(),
        output::tests(),
        publish::tests(),
        pull::tests(),
        records::tests(),
        refusals::tests(),
        push_auth::tests(),
        connections::tests(),
        freshness::tests(),
        replay::tests(),
        letter_topic::tests(),
        events_named::tests(),
        retention::tests(),
        by_record::tests(),
        objects::tests(),
        schema::tests(),
        storage_faults::tests(),
        stores::tests(),
        traces::tests(),
        shutdown::tests(),
        surface::tests(),
        docs_commands::tests(),
        local_example::tests(),
        version::tests(),
        status_page::tests(),
        metrics_page::tests(),
        fire::tests(),
        fakes::tests(),
        catalog::tests(),
        check::tests(),
        sql::tests(),
        rest::tests(),
        foreign::tests(),
        google::tests(),
        live::tests(),
        commit::tests(),
        maintenance::tests(),
        batch::tests(),
        simulation::tests(),
        write::tests(),
        agree::tests(),
    ]
    .into_iter()
    .flatten()
    .collect();
    let mut arguments = Arguments::from_args();
    // Many tests wait for most of their time, for a server that is away or for what comes again.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    arguments.test_threads.get_or_insert(cores + 1);
    let conclusion = run(&arguments, tests);
    support::readers::stop_all();
    conclusion.exit_code()
}
