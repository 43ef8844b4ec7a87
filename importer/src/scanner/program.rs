//! The scanner as a program: what it is told, what it may take, and how it ended.

use std::fmt;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use manifest_schema::text::escape;
use manifest_schema::{LIMITS, OutsideText};
use rustix::process::{Pid, Signal, kill_process_group};

use super::Target;
use crate::config::ScannerConfig;
use crate::error::Error;

/// Variables that every program needs; none of them holds a key.
const PASSED: [&str; 14] = [
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "TZ",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "NO_PROXY",
    "no_proxy",
];
/// What is kept of what a scanner says beside its report.
const STDERR: usize = 4096;
/// How long what it left running may take to end.
const GRACE: Duration = Duration::from_secs(5);
/// How often it is looked whether it has ended.
const PAUSE: Duration = Duration::from_millis(20);

/// The command, with places for what it is about.
#[derive(Debug, Clone)]
pub(super) struct Program {
    command: Vec<String>,
    environment: Vec<String>,
    timeout: Duration,
}

/// How a run ended.
pub(super) struct Ended {
    /// What it wrote: the report, or its standard output.
    pub(super) output: Option<Vec<u8>>,
    /// Why the image does not pass.
    pub(super) refused: Option<String>,
}

impl Program {
    /// From a configuration.
    ///
    /// # Errors
    /// [`Error::ScanCommand`].
    pub(super) fn new(config: &ScannerConfig) -> Result<Self, Error> {
        let wrong = |why| Err(Error::ScanCommand(why));
        if config.command.first().is_none_or(String::is_empty) {
            return wrong("it names no program");
        }
        let program = Self {
            command: config.command.clone(),
            environment: config.environment.clone(),
            timeout: Duration::from_secs(config.timeout.into()),
        };
        if !program.has("{reference}") && !program.wants_archive() {
            return wrong("it says nowhere which image it is for: {reference} or {archive} is missing");
        }
        if config.environment.iter().any(|name| name.starts_with("SEALIFT_")) {
            return wrong("variables of this program are not handed on");
        }
        Ok(program)
    }

    /// Whether the program is there, as far as its name says where.
    ///
    /// # Errors
    /// [`Error::ScanStart`].
    pub(super) fn is_there(&self) -> Result<(), Error> {
        let program = &self.command[0];
        let failed = |source| Error::ScanStart { program: OutsideText::new(program), source };
        match program.contains('/').then(|| std::fs::metadata(program)).transpose().map_err(failed)? {
            Some(found) if !found.is_file() => Err(failed(std::io::Error::other("it is no file"))),
            _ => Ok(()),
        }
    }

    /// What stops a run that is neither the image's fault nor the scanner's.
    pub(super) fn failed(&self, source: std::io::Error) -> Error {
        Error::ScanRun { program: OutsideText::new(&self.command[0]), source }
    }

    /// Whether it is given a file.
    pub(super) fn wants_archive(&self) -> bool {
        self.has("{archive}")
    }

    fn has(&self, place: &str) -> bool {
        self.command.iter().any(|argument| argument.contains(place))
    }

    /// Runs it to its end, in a folder of its own.
    ///
    /// # Errors
    /// [`Error::ScanStart`]; [`Error::ScanRun`] if it cannot be watched, or its report cannot be read.
    pub(super) fn run(&self, target: &Target<'_>, folder: &Path, archive: Option<&Path>) -> Result<Ended, Error> {
        let report = folder.join("report");
        let filled = |argument: &String| {
            let mut text = argument.replace("{reference}", &target.reference().to_string());
            text = text.replace("{digest}", &target.manifest.to_string());
            text = text.replace("{platform}", &target.platform.map(ToString::to_string).unwrap_or_default());
            text = text.replace("{report}", &report.display().to_string());
            archive.map_or_else(|| text.clone(), |path| text.replace("{archive}", &path.display().to_string()))
        };
        let arguments: Vec<String> = self.command.iter().map(filled).collect();
        let passed = PASSED.iter().copied().chain(self.environment.iter().map(String::as_str));
        let mut command = Command::new(&arguments[0]);
        command
            .args(&arguments[1..])
            .env_clear()
            .envs(passed.filter_map(|name| Some((name, std::env::var_os(name)?))))
            .env("TMPDIR", folder)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let child = match command.spawn() {
            Ok(child) => child,
            Err(source) => return Err(Error::ScanStart { program: OutsideText::new(&arguments[0]), source }),
        };
        let Watched { status, stdout, stderr, stopped } = watch(child, self.timeout).map_err(|e| self.failed(e))?;
        // Some say on one what is wrong, some on the other.
        let said = if stderr.trim_ascii().is_empty() { stdout.clone().unwrap_or_default() } else { stderr };
        let (output, unread) = match self.has("{report}") {
            true => read_report(&report).map_err(|e| self.failed(e))?,
            false => (stdout, None),
        };
        let refused = match (stopped, status.code()) {
            (Some(why), _) => Some(why),
            (None, Some(0)) if unread.is_some() => unread,
            (None, Some(0)) if output.as_ref().is_none_or(Vec::is_empty) => Some("it wrote nothing".to_string()),
            (None, Some(0)) => None,
            (None, Some(code)) => Some(format!("it ended with exit code {code}{}", last_lines(&said))),
            (None, None) => Some(format!("signal {} ended it", status.signal().unwrap_or_default())),
        };
        Ok(Ended { output, refused })
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.command.join(" "))
    }
}

/// What a program did.
struct Watched {
    status: ExitStatus,
    stdout: Option<Vec<u8>>,
    stderr: Vec<u8>,
    /// Why it was killed.
    stopped: Option<String>,
}

/// Waits for the end of a program, but not for ever; takes what it writes, but not without end. Nothing that it started goes
/// on after it.
fn watch(mut child: Child, timeout: Duration) -> std::io::Result<Watched> {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let kill = || group.map(|group| kill_process_group(group, Signal::KILL));
    let stdout = apart(child.stdout.take(), |stdout| {
        let mut bytes = Vec::new();
        let _ = stdout.take(LIMITS.report + 1).read_to_end(&mut bytes);
        bytes
    });
    let stderr = apart(child.stderr.take(), last_bytes);
    let began = Instant::now();
    let mut written = None;
    let mut stopped = None;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        written = written.or_else(|| stdout.try_recv().ok());
        stopped = match &written {
            Some(bytes) if bytes.len() as u64 > LIMITS.report => Some(too_much()),
            _ if began.elapsed() >= timeout => Some(format!("it took longer than {} seconds", timeout.as_secs())),
            _ => None,
        };
        if stopped.is_some() {
            kill();
            match ended_within(&mut child, GRACE)? {
                Some(status) => break status,
                None => {
                    let stopped = stopped.map(|why| format!("{why}, and cannot be ended"));
                    return Ok(Watched { status: ExitStatus::default(), stdout: None, stderr: Vec::new(), stopped });
                }
            }
        }
        std::thread::sleep(PAUSE);
    };
    // What it left running may still look at the image.
    kill();
    let written = written.or_else(|| stdout.recv_timeout(GRACE).ok());
    let stderr = stderr.recv_timeout(GRACE).unwrap_or_default();
    let stopped = stopped.or_else(|| match &written {
        None => Some("something that it started goes on, and cannot be ended".into()),
        Some(bytes) if bytes.len() as u64 > LIMITS.report => Some(too_much()),
        Some(_) => None,
    });
    Ok(Watched { status, stdout: written.filter(|_| stopped.is_none()), stderr, stopped })
}

/// How a program ended, if it does within a time.
fn ended_within(child: &mut Child, time: Duration) -> std::io::Result<Option<ExitStatus>> {
    let began = Instant::now();
    loop {
        match child.try_wait()? {
            None if began.elapsed() < time => std::thread::sleep(PAUSE),
            status => return Ok(status),
        }
    }
}

/// Reads in a thread of its own, which nobody waits for if somebody keeps the pipe open.
fn apart<R: Read + Send + 'static>(
    pipe: Option<R>,
    read: impl FnOnce(R) -> Vec<u8> + Send + 'static,
) -> Receiver<Vec<u8>> {
    let (to, from) = mpsc::channel();
    std::thread::spawn(move || to.send(pipe.map(read).unwrap_or_default()));
    from
}

/// The end of what a reader gives.
fn last_bytes(mut reader: impl Read) -> Vec<u8> {
    let (mut last, mut buffer) = (Vec::new(), [0; STDERR]);
    while let Ok(n) = reader.read(&mut buffer) {
        if n == 0 {
            break;
        }
        last.extend_from_slice(&buffer[..n]);
        let excess = last.len().saturating_sub(STDERR);
        last.drain(..excess);
    }
    last
}

fn last_lines(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines[lines.len().saturating_sub(3)..].join("; ");
    if last.is_empty() { String::new() } else { format!(": {}", escape(&last)) }
}

/// The report, if there is one; or why it is not taken. A link is not followed.
fn read_report(path: &Path) -> std::io::Result<(Option<Vec<u8>>, Option<String>)> {
    let found = match path.symlink_metadata() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok((None, None)),
        other => other?,
    };
    if !found.is_file() {
        return Ok((None, Some("its report is no regular file".into())));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(LIMITS.report + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > LIMITS.report {
        true => Ok((None, Some(too_much()))),
        false => Ok((Some(bytes), None)),
    }
}

fn too_much() -> String {
    format!("it wrote more than {} bytes", LIMITS.report)
}
