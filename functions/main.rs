//! The command line of landfast: parses it, and calls one function.

mod check;
mod config;
mod dev;
mod ledger;
mod load;
mod maintain;
mod output;
mod progress;
mod pull;
mod replay;
mod serve;
mod show;
mod verify;
mod version;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use landfast::telemetry::LogFormat;

use output::OutputFormat;

// The system's keeps what large buffers leave behind: a long load took twice the memory of a short one.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Lands events in Apache Iceberg tables: acknowledged means committed.
#[derive(Debug, Parser)]
#[command(version = landfast::version::line(), propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// How results are written to standard output.
    #[arg(long, global = true, value_enum, default_value_t = OutputFormat::Text)]
    output: OutputFormat,
    /// How logs are written to standard error. Default: stackdriver on Cloud Run, else text.
    #[arg(long, global = true, value_enum)]
    log: Option<LogFormat>,
    /// Only warnings and errors.
    #[arg(long, global = true)]
    quiet: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Everything on this machine, no configuration needed.
    #[command(after_help = "Example:\n  landfast dev --demo --dir ./landfast-data\n\n\
        Exit status: 0 stopped with everything answered, 1 it could not start or left something unanswered, 2 wrong usage \
        or configuration.")]
    Dev(dev::DevArgs),
    /// The HTTP handler that Cloud Run runs.
    #[command(
        after_help = "Example:\n  landfast serve --config landfast.yaml --log stackdriver\n\n\
        Exit status: 0 stopped with everything answered, 1 it could not start or left something unanswered, 2 wrong usage \
        or configuration."
    )]
    Serve(serve::ServeArgs),
    /// The worker that pulls Pub/Sub subscriptions.
    Pull(pull::PullArgs),
    /// Files become commits: one each, all of it or none.
    #[command(
        after_help = "Example:\n  landfast load --dir ./landfast-data --table landfast.orders orders.ndjson.gz\n\n\
        Exit status: 0 every file is in the table, 3 so it is, but for records that are dead letters, 1 some file is not, \
        2 wrong usage or configuration."
    )]
    Load(load::LoadArgs),
    /// Dead letters back through the pipeline, each record once.
    Replay(replay::ReplayArgs),
    /// Lets old snapshots go, and deletes files that nothing names any more.
    Maintain(maintain::MaintainArgs),
    /// Proves that no delivery and no file is there twice and none is missing.
    Verify(verify::VerifyArgs),
    /// Does once what the service will do, and names the permission that is missing.
    Check(check::CheckArgs),
    /// What a table remembers of its deliveries.
    #[command(subcommand)]
    Ledger(ledger::LedgerCommand),
    /// What a table is and holds.
    #[command(
        after_help = "Example:\n  landfast show --dir ./landfast-data landfast.orders\n\n\
        Exit status: 0 shown, 1 there is no such table or it cannot be read, 2 wrong usage or configuration."
    )]
    Show(show::ShowArgs),
    /// Checks and shows configurations.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Which landfast this is: version, commit, build date and target.
    #[command(after_help = "Example:\n  landfast version --output json\n\n\
        Exit status: 0 printed, 1 the answer could not be written, 2 wrong usage.")]
    Version,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(error) = output::start_logs(cli.log, cli.quiet) {
        return output::failed(&error);
    }
    // A progress bar is for people, too.
    let quiet = !output::is_for_people();
    match cli.command {
        Command::Dev(args) => dev::run(&args, cli.output),
        Command::Serve(args) => serve::run(&args),
        Command::Pull(args) => pull::run(&args),
        Command::Load(args) => load::run(&args, cli.output, quiet),
        Command::Replay(args) => replay::run(&args, cli.output, quiet),
        Command::Maintain(args) => maintain::run(&args, cli.output),
        Command::Verify(args) => verify::run(&args, cli.output),
        Command::Check(args) => check::run(&args, cli.output),
        Command::Ledger(command) => ledger::run(&command, cli.output),
        Command::Show(args) => show::run(&args, cli.output),
        Command::Config(command) => config::run(command, cli.output),
        Command::Version => version::run(cli.output),
    }
}
