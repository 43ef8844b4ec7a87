//! The command line of `sealift-import`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use commands::check;
use console::args::{TalkArgs, parse};
use importer::commands::{
    approve, handover, init, inspect, keygen, ledger, promote, receipt, receive, reject, resign, serve, trust, verify,
    withdraw,
};

/// Verifies bundles that sealift-export packed, pushes their images into the production registry, signs them, and keeps a
/// ledger of what came in.
#[derive(Parser)]
#[command(name = "sealift-import", version, arg_required_else_help = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    talk: TalkArgs,
}

#[derive(Subcommand)]
enum Command {
    Init(init::Init),
    Keygen(keygen::Keygen),
    Check(check::Check),
    Inspect(inspect::Inspect),
    Verify(verify::Verify),
    Receive(Box<receive::Receive>),
    Receipt(receipt::Receipt),
    Approve(Box<approve::Approve>),
    Promote(Box<promote::Promote>),
    Reject(Box<reject::Reject>),
    Resign(Box<resign::Resign>),
    Withdraw(Box<withdraw::Withdraw>),
    Ledger(ledger::LedgerCommand),
    Handover(handover::HandoverCommand),
    Serve(serve::Serve),
    Trust(trust::TrustCommand),
}

fn main() -> ExitCode {
    let cli = parse::<Cli>();
    cli.talk.start();
    let quiet = cli.talk.quiet;
    console::run("sealift-import", || match cli.command {
        Command::Init(command) => command.run(),
        Command::Keygen(command) => command.run(),
        Command::Check(command) => command.run(quiet),
        Command::Inspect(command) => command.run(),
        Command::Verify(command) => command.run(quiet),
        Command::Receive(command) => command.run(quiet),
        Command::Receipt(command) => command.run(),
        Command::Approve(command) => command.run(),
        Command::Promote(command) => command.run(quiet),
        Command::Reject(command) => command.run(),
        Command::Resign(command) => command.run(quiet),
        Command::Withdraw(command) => command.run(quiet),
        Command::Ledger(command) => command.run(),
        Command::Handover(command) => command.run(quiet),
        Command::Serve(command) => command.run(),
        Command::Trust(command) => command.run(),
    })
}
