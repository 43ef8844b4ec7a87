//! The command line of `sealift-export`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use commands::{check, keygen};
use console::args::{TalkArgs, parse};
use exporter::commands::{init, pack, plan, receipts, sign};

/// Packs container images, with a signed manifest, into an encrypted bundle that a courier carries across an air gap.
#[derive(Parser)]
#[command(name = "sealift-export", version, arg_required_else_help = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    talk: TalkArgs,
}

#[derive(Subcommand)]
enum Command {
    Init(init::Init),
    /// Makes a release key: secret key, certificate, revocation certificate
    Keygen(keygen::Keygen),
    Plan(plan::Plan),
    Sign(sign::Sign),
    Pack(pack::Pack),
    Check(check::Check),
    Receipts(receipts::Receipts),
}

fn main() -> ExitCode {
    let cli = parse::<Cli>();
    cli.talk.start();
    let quiet = cli.talk.quiet;
    console::run("sealift-export", || match cli.command {
        Command::Init(command) => command.run(),
        Command::Keygen(command) => command.run(keygen::Role::Release),
        Command::Plan(command) => command.run(quiet),
        Command::Sign(command) => command.run(quiet),
        Command::Pack(command) => command.run(quiet),
        Command::Check(command) => command.run(quiet),
        Command::Receipts(command) => command.run(quiet),
    })
}
