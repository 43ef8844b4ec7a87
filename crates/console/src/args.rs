//! Arguments that both programs take.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::builder::Resettable;
use clap::{ArgAction, Args, Command, Parser};
use tracing_subscriber::EnvFilter;

/// Reads the command line. A variable that is empty counts as one that is not set: pipelines set one for each parameter, also if
/// nobody has filled it in.
pub fn parse<C: Parser>() -> C {
    let matches = without_empty_variables(C::command()).get_matches();
    C::from_arg_matches(&matches).unwrap_or_else(|e| e.format(&mut C::command()).exit())
}

fn without_empty_variables(command: Command) -> Command {
    let command = command.mut_args(|arg| match arg.get_env().and_then(std::env::var_os) {
        Some(value) if value.is_empty() => arg.env(Resettable::Reset),
        _ => arg,
    });
    command.mut_subcommands(without_empty_variables)
}

/// How much to say.
#[derive(Debug, Clone, Args)]
pub struct TalkArgs {
    /// Say more on stderr; twice for every request
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// No progress on stderr
    #[arg(short, long, global = true, env = "SEALIFT_QUIET")]
    pub quiet: bool,
}

impl TalkArgs {
    /// Starts the log on stderr.
    pub fn start(&self) {
        let level = match self.verbose {
            0 => "warn",
            1 => "info,ureq=warn,rustls=warn",
            2 => "debug,ureq=info,rustls=info",
            _ => "trace",
        };
        let given = std::env::var("SEALIFT_LOG").ok().filter(|text| !text.is_empty());
        let filter = given.and_then(|text| EnvFilter::try_new(text).ok()).unwrap_or_else(|| EnvFilter::new(level));
        let _ = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(false)
            .without_time()
            .try_init();
    }
}

/// How registries are reached.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Registry access")]
pub struct RegistryArgs {
    /// Credentials in the form of containers-auth.json(5) [default: the usual files of podman, skopeo and docker]
    #[arg(long, value_name = "FILE", env = "REGISTRY_AUTH_FILE")]
    pub authfile: Option<PathBuf>,
    /// Folder with CA and client certificates as in containers-certs.d(5) [default: the usual certs.d folders]
    #[arg(long, value_name = "DIR", env = "SEALIFT_CERT_DIR")]
    pub cert_dir: Vec<PathBuf>,
    /// Talk plain HTTP to this registry; loopback needs no leave
    #[arg(long, value_name = "HOST[:PORT]", env = "SEALIFT_PLAIN_HTTP", value_delimiter = ',')]
    pub plain_http: Vec<String>,
    /// How often a request is made before a passing reason counts as a failure
    #[arg(long, value_name = "N", default_value_t = 5, env = "SEALIFT_RETRIES")]
    pub retries: u32,
}

/// How much is done at once.
#[derive(Debug, Clone, Default, Args)]
pub struct JobArgs {
    /// Blobs that are transferred, and images that are asked for, at once [default: twice the number of processors, at least 4 and at most 16]
    #[arg(short, long, value_name = "N", env = "SEALIFT_JOBS")]
    pub jobs: Option<NonZeroUsize>,
}

impl JobArgs {
    /// What was asked for here or in the configuration, or what suits the machine: transfers wait more than they work.
    pub fn or(&self, configured: Option<NonZeroUsize>) -> usize {
        let machine = || std::thread::available_parallelism().map_or(2, usize::from);
        self.jobs.or(configured).map_or_else(|| (2 * machine()).clamp(4, 16), usize::from).min(MOST_JOBS)
    }
}

/// More connections than this help nobody.
const MOST_JOBS: usize = 64;
