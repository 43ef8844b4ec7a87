//! Keys that gpg-agent holds: on disk under its own protection, on a smart card, in an HSM.
//!
//! gpg itself is run when the key is looked up, to export the certificate and to name the key's grip; each signature is one
//! exchange with the agent over its socket. The secret never comes into this process.

mod assuan;
mod sexp;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use manifest_schema::{LIMITS, OutsideText};
use openpgp::Cert;
use openpgp::crypto::{Signer, mpi};
use openpgp::packet::Key;
use openpgp::packet::key::{PublicParts, UnspecifiedRole};
use openpgp::types::HashAlgorithm;
use secrecy::SecretString;
use sequoia_openpgp as openpgp;

use self::assuan::{Connection, Wait, plus_escaped};
use crate::certificates::{read_certs, read_key_file};
use crate::error::shown;
use crate::secret::rank;
use crate::{Error, Fingerprint};

/// How a key that gpg-agent holds is found and unlocked.
#[derive(Debug, Clone, Default)]
pub struct AgentAccess {
    /// GnuPG's home folder, instead of `GNUPGHOME` or the usual one.
    pub home: Option<PathBuf>,
    /// Files with the key's certificate; if there are none, the one in GnuPG's keyring is taken.
    pub certificates: Vec<PathBuf>,
    /// The passphrase or PIN. Without it, the agent asks for one with its own pinentry.
    pub passphrase: Option<SecretString>,
}

/// Why a key that gpg-agent holds cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AgentError {
    /// A program of GnuPG cannot be run.
    #[error("{program} cannot be run: {reason}")]
    Program {
        /// The program.
        program: &'static str,
        /// Why.
        reason: String,
    },
    /// A program of GnuPG failed.
    #[error("{program} failed: {}", reason.escaped())]
    Failed {
        /// The program.
        program: &'static str,
        /// What it said.
        reason: OutsideText,
    },
    /// The keyring does not have the certificate.
    #[error("GnuPG's keyring has no certificate with this fingerprint")]
    NoCertificate,
    /// The certificate files do not have it.
    #[error("none of the certificate files holds it: {}", files.iter().map(|f| shown(f)).collect::<Vec<_>>().join(", "))]
    OtherCertificates {
        /// The files.
        files: Vec<PathBuf>,
    },
    /// The agent's socket.
    #[error("no gpg-agent answers on {}: {reason}", shown(socket))]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// Why.
        reason: String,
    },
    /// The connection broke.
    #[error("the connection to gpg-agent broke: {0}")]
    Broken(String),
    /// The agent does not have the secret key.
    #[error("gpg-agent has no secret key for it")]
    NoSecretKey,
    /// The agent has no part of the key that may sign.
    #[error("gpg-agent has its secret key, but no part of it that may sign")]
    NoSigningKey,
    /// The passphrase that was given.
    #[error("wrong passphrase")]
    WrongPassphrase,
    /// A passphrase that is too long.
    #[error("gpg-agent takes passphrases of at most {limit} bytes")]
    LongPassphrase {
        /// The limit in bytes.
        limit: usize,
    },
    /// Somebody said no, or nobody said anything.
    #[error("cancelled at the agent's passphrase prompt")]
    Cancelled,
    /// The agent cannot ask anybody.
    #[error("gpg-agent has no way to ask for the passphrase: {}", .0.escaped())]
    NoPinentry(OutsideText),
    /// The agent must not take a passphrase from us.
    #[error("gpg-agent does not take a passphrase from other programs (no-allow-loopback-pinentry)")]
    NoLoopback,
    /// No smart card.
    #[error("the smart card is not there")]
    NoCard,
    /// The agent refuses for another reason.
    #[error("gpg-agent refuses: {}", .0.escaped())]
    Refused(OutsideText),
    /// Not what an agent says.
    #[error("gpg-agent answered something that is not understood: {0}")]
    Protocol(String),
    /// A key of a kind that cannot be used like this.
    #[error("gpg-agent cannot sign with a key of this kind ({0})")]
    Algorithm(String),
}

impl AgentError {
    /// What an error code of libgpg-error means: the source in bits 24 to 30, the code in the lowest 16.
    fn of_code(code: u32, text: &str) -> Self {
        const PINENTRY: u32 = 5;
        let said = OutsideText::new(text);
        match (code >> 24 & 0x7f, code & 0xffff) {
            (_, 17) => Self::NoSecretKey,
            (_, 11 | 87) => Self::WrongPassphrase,
            (_, 99 | 198 | 62 | 177 | 277) => Self::Cancelled,
            (_, 85 | 86) => Self::NoPinentry(said),
            (_, 112) => Self::NoCard,
            (PINENTRY, _) => Self::NoPinentry(said),
            _ => Self::Refused(said),
        }
    }
}

/// A key that signs through gpg-agent. Clones share one connection.
#[derive(Clone)]
pub(crate) struct AgentKey {
    public: Key<PublicParts, UnspecifiedRole>,
    agent: Arc<Mutex<Agent>>,
}

struct Agent {
    home: Option<PathBuf>,
    connection: Option<Connection>,
    keygrip: Keygrip,
    /// What pinentry shows, escaped.
    description: String,
    passphrase: Option<SecretString>,
}

/// GnuPG's name for a key, whatever protocol uses it: 40 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Keygrip(String);

impl fmt::Display for Keygrip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Finds a key of which gpg-agent has the secret. The fingerprint is the certificate's, and the agent's best signing key of it
/// is chosen; or that of one subkey, and then this one signs.
pub(crate) fn find(wanted: &Fingerprint, access: AgentAccess) -> Result<(Cert, AgentKey), Error> {
    let failed = |fault: AgentError| Error::Agent { fingerprint: wanted.clone(), fault };
    let home = access.home.as_deref();
    let cert = certificate(wanted, &access)?;
    let keygrips = keygrips(home, &cert).map_err(failed)?;
    let mut agent = Agent {
        home: access.home.clone(),
        connection: None,
        keygrip: Keygrip(String::new()),
        description: String::new(),
        passphrase: access.passphrase,
    };
    let all = Fingerprint::from(cert.fingerprint()) == *wanted;
    let (mut best, mut held) = (None, false);
    for key in cert.keys() {
        let fingerprint = Fingerprint::from(key.key().fingerprint());
        let Some(keygrip) = keygrips.get(&fingerprint).filter(|_| all || fingerprint == *wanted) else { continue };
        match agent.with_connection(|c| c.command(&format!("HAVEKEY {keygrip}"), None, Wait::Short)) {
            Ok(_) => held = true,
            Err(AgentError::NoSecretKey) => continue,
            Err(e) => return Err(failed(e)),
        }
        let Some(rank) = rank(&cert, &key) else { continue };
        if best.as_ref().is_none_or(|(known, _, _)| rank > *known) {
            best = Some((rank, key.key().clone().role_into_unspecified(), keygrip.clone()));
        }
    }
    let (_, public, keygrip) =
        best.ok_or_else(|| failed(if held { AgentError::NoSigningKey } else { AgentError::NoSecretKey }))?;
    use mpi::PublicKey as Mpi;
    if !matches!(public.mpis(), Mpi::RSA { .. } | Mpi::ECDSA { .. } | Mpi::EdDSA { .. }) {
        return Err(failed(AgentError::Algorithm(public.pk_algo().to_string())));
    }
    agent.keygrip = keygrip;
    agent.description = description(&cert, &public);
    Ok((cert.strip_secret_key_material(), AgentKey { public, agent: Arc::new(Mutex::new(agent)) }))
}

/// What pinentry shows above the field for the passphrase.
fn description(cert: &Cert, key: &Key<PublicParts, UnspecifiedRole>) -> String {
    let user = cert.userids().next().map(|u| String::from_utf8_lossy(u.userid().value()).into_owned());
    let user: String = user.unwrap_or_default().chars().filter(|c| !c.is_control()).take(100).collect();
    plus_escaped(&format!("Sealift signs with the key\n\"{user}\"\n{}\n", key.fingerprint().to_hex()))
}

/// The certificate: from the files, or from GnuPG's keyring.
fn certificate(wanted: &Fingerprint, access: &AgentAccess) -> Result<Cert, Error> {
    let has = |cert: &Cert| cert.keys().any(|key| Fingerprint::from(key.key().fingerprint()) == *wanted);
    let failed = |fault| Error::Agent { fingerprint: wanted.clone(), fault };
    if access.certificates.is_empty() {
        let args = ["--batch", "--no-tty", "--quiet", "--no-auto-check-trustdb", "--export", "--", wanted.as_str()];
        let bytes = run("gpg", access.home.as_deref(), &args, b"").map_err(failed)?;
        let (certs, _) = read_certs(Path::new("gpg --export"), &bytes)?;
        return certs.into_iter().find(has).ok_or_else(|| failed(AgentError::NoCertificate));
    }
    for path in &access.certificates {
        let (certs, _) = read_certs(path, &read_key_file(path)?)?;
        if let Some(cert) = certs.into_iter().find(has) {
            return Ok(cert);
        }
    }
    Err(failed(AgentError::OtherCertificates { files: access.certificates.clone() }))
}

/// The keygrips of a certificate's keys, as gpg lists them (GnuPG's doc/DETAILS, "Format of the colon listings").
fn keygrips(home: Option<&Path>, cert: &Cert) -> Result<BTreeMap<Fingerprint, Keygrip>, AgentError> {
    use openpgp::serialize::SerializeInto;
    let bytes = cert.to_vec().map_err(|e| AgentError::Protocol(e.to_string()))?;
    let args = ["--batch", "--no-tty", "--quiet", "--no-auto-check-trustdb", "--with-colons", "--with-keygrip"];
    let listed = run("gpg", home, &[&args[..], &["--show-keys"]].concat(), &bytes)?;
    let (mut keygrips, mut last) = (BTreeMap::new(), None);
    for line in String::from_utf8_lossy(&listed).lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let Some(value) = fields.get(9).copied() else { continue };
        match fields[0] {
            "fpr" => last = value.parse::<Fingerprint>().ok(),
            "grp" if value.len() == 40 && value.bytes().all(|b| b.is_ascii_hexdigit()) => {
                if let Some(fingerprint) = last.take() {
                    keygrips.insert(fingerprint, Keygrip(value.into()));
                }
            }
            _ => {}
        }
    }
    Ok(keygrips)
}

/// Runs a program of GnuPG; its output is bounded by `LIMITS.config`.
fn run(program: &'static str, home: Option<&Path>, args: &[&str], input: &[u8]) -> Result<Vec<u8>, AgentError> {
    let cannot = |e: std::io::Error| AgentError::Program { program, reason: e.to_string() };
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some(home) = home {
        command.env("GNUPGHOME", home);
    }
    let mut child = command.spawn().map_err(cannot)?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (mut out, mut err) = (Vec::new(), Vec::new());
    std::thread::scope(|scope| {
        // A program that does not want its input closes it; what it then says is what counts.
        scope.spawn(|| stdin.map(|mut stdin| stdin.write_all(input)));
        let complaints = scope.spawn(|| stderr.map(|e| e.take(64 << 10).read_to_end(&mut err)));
        let read = stdout.map_or(Ok(0), |o| o.take(LIMITS.config + 1).read_to_end(&mut out));
        let _ = complaints.join();
        read
    })
    .map_err(cannot)?;
    let status = child.wait().map_err(cannot)?;
    if out.len() as u64 > LIMITS.config {
        return Err(AgentError::Protocol(format!("{program} printed more than {} bytes", LIMITS.config)));
    }
    if status.success() {
        return Ok(out);
    }
    let text = String::from_utf8_lossy(&err);
    let last = text.lines().rfind(|l| !l.trim().is_empty());
    Err(AgentError::Failed { program, reason: OutsideText::new(last.map_or_else(|| status.to_string(), String::from)) })
}

impl Agent {
    /// Runs commands on the connection, which is made if there is none. One that broke, because the agent was restarted, is
    /// made anew once: every command may be given twice.
    fn with_connection<T>(
        &mut self,
        mut act: impl FnMut(&mut Connection) -> Result<T, AgentError>,
    ) -> Result<T, AgentError> {
        if let Some(mut connection) = self.connection.take() {
            match act(&mut connection) {
                Err(AgentError::Broken(reason)) => tracing::info!("connecting to gpg-agent again: {reason}"),
                // What was said after an answer that is not understood cannot be told from what is said next.
                Err(e @ AgentError::Protocol(_)) => return Err(e),
                other => {
                    self.connection = Some(connection);
                    return other;
                }
            }
        }
        let mut connection = connect(self.home.as_deref(), self.passphrase.is_some())?;
        let result = act(&mut connection);
        if !matches!(result, Err(AgentError::Broken(_) | AgentError::Protocol(_))) {
            self.connection = Some(connection);
        }
        result
    }

    fn sign(&mut self, hash: &str, digest: &[u8]) -> Result<mpi::Signature, AgentError> {
        let (keygrip, description) = (self.keygrip.clone(), self.description.clone());
        let passphrase = self.passphrase.clone();
        let hex: String = digest.iter().map(|b| format!("{b:02X}")).collect();
        let answer = self.with_connection(|connection| {
            connection.command(&format!("SIGKEY {keygrip}"), None, Wait::Short)?;
            connection.command(&format!("SETKEYDESC {description}"), None, Wait::Short)?;
            connection.command(&format!("SETHASH --hash={hash} {hex}"), None, Wait::Short)?;
            connection.command("PKSIGN", passphrase.as_ref(), Wait::ForPerson)
        })?;
        sexp::signature(&answer).ok_or_else(|| AgentError::Protocol("not a signature".into()))
    }
}

/// Connects to the agent, which is started if it does not run, and says where pinentry can ask.
fn connect(home: Option<&Path>, loopback: bool) -> Result<Connection, AgentError> {
    run("gpgconf", home, &["--launch", "gpg-agent"], b"")?;
    let socket = run("gpgconf", home, &["--list-dirs", "agent-socket"], b"")?;
    let socket = PathBuf::from(std::ffi::OsString::from(String::from_utf8_lossy(&socket).trim_end_matches('\n')));
    let mut connection = Connection::open(&socket)?;
    if loopback {
        return match connection.command("OPTION pinentry-mode=loopback", None, Wait::Short) {
            Ok(_) => Ok(connection),
            Err(AgentError::Refused(_)) => Err(AgentError::NoLoopback),
            Err(e) => Err(e),
        };
    }
    for option in pinentry_options() {
        match connection.command(&format!("OPTION {option}"), None, Wait::Short) {
            // An agent that does not know an option asks without it.
            Ok(_) | Err(AgentError::Refused(_)) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(connection)
}

/// Where pinentry can ask: terminal and display of this process.
fn pinentry_options() -> Vec<String> {
    let variable = |name: &str| std::env::var(name).ok();
    let terminal = || {
        let stdin = std::io::stdin().is_terminal().then(|| std::fs::read_link("/proc/self/fd/0").ok()).flatten();
        stdin.map(|path| path.display().to_string())
    };
    let options = [
        ("ttyname", variable("GPG_TTY").or_else(terminal)),
        ("ttytype", variable("TERM")),
        ("display", variable("DISPLAY")),
        ("xauthority", variable("XAUTHORITY")),
        ("lc-ctype", variable("LC_ALL").or_else(|| variable("LC_CTYPE")).or_else(|| variable("LANG"))),
        ("lc-messages", variable("LC_ALL").or_else(|| variable("LC_MESSAGES")).or_else(|| variable("LANG"))),
        ("putenv=WAYLAND_DISPLAY", variable("WAYLAND_DISPLAY")),
        ("putenv=DBUS_SESSION_BUS_ADDRESS", variable("DBUS_SESSION_BUS_ADDRESS")),
    ];
    let fits = |value: &String| !value.is_empty() && value.len() < 900 && !value.chars().any(char::is_control);
    options.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value.filter(fits)?))).collect()
}

impl Signer for AgentKey {
    fn public(&self) -> &Key<PublicParts, UnspecifiedRole> {
        &self.public
    }

    fn sign(&mut self, hash: HashAlgorithm, digest: &[u8]) -> openpgp::Result<mpi::Signature> {
        let name = match hash {
            HashAlgorithm::SHA256 => "sha256",
            HashAlgorithm::SHA384 => "sha384",
            HashAlgorithm::SHA512 => "sha512",
            other => return Err(AgentError::Algorithm(other.to_string()).into()),
        };
        let mut agent = self.agent.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Ok(agent.sign(name, digest)?)
    }
}
