//! What can go wrong in the shared commands, who is at fault, and what to do next.

use std::path::PathBuf;

use console::{Explain, Fault};
use manifest_schema::OutsideText;
use registry::source::{ArchiveFault, SourceError};

/// A shared command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("{}: cannot be read", .path.display())]
    ReadConfig {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A configuration file is wrong.
    #[error("{}: {}", .path.display(), lines(.message))]
    Config {
        /// The file.
        path: PathBuf,
        /// What, with the line.
        message: OutsideText,
    },
    /// Registry access.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// The bundle's folder.
    #[error(transparent)]
    Folder(#[from] bundle::FolderError),
    /// There is no seal.
    #[error("{}: there is no seal: {file} is missing", .folder.display())]
    NoSeal {
        /// The bundle's folder.
        folder: PathBuf,
        /// The file that is missing.
        file: &'static str,
    },
    /// The seal's signature is cut short.
    #[error("{}: cut short", .0.display())]
    CutSeal(PathBuf),
    /// The seal is malformed.
    #[error(transparent)]
    Seal(#[from] bundle::SealError),
    /// The seal's signature does not count.
    #[error("{}: the seal is not signed by a certificate that is trusted here", .folder.display())]
    Rejected {
        /// The bundle's folder.
        folder: PathBuf,
        /// Why.
        source: signing::Rejected,
    },
    /// No folder was given.
    #[error("no folder was given")]
    NoFolder,
    /// A folder of another bundle.
    #[error("{} holds {found}, not {expected}", .folder.display())]
    OtherBundle {
        /// The folder.
        folder: PathBuf,
        /// What it holds.
        found: String,
        /// What the folder before it holds.
        expected: String,
    },
    /// A key or certificate.
    #[error(transparent)]
    Signing(#[from] signing::Error),
    /// A key for cosign signatures.
    #[error(transparent)]
    Cosign(#[from] signing::sigstore::SigstoreSecretError),
    /// Where signatures are looked for.
    #[error(transparent)]
    RegistriesD(#[from] signing::RegistriesDError),
    /// Files differ from the seal.
    #[error(transparent)]
    Damaged(Box<crate::check::Damage>),
    /// A key in two roles.
    #[error(transparent)]
    Roles(#[from] signing::RoleConflict),
    /// A statement of custody cannot be written.
    #[error("{}: the statement cannot be written", .path.display())]
    HandOver {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A statement of custody would be malformed.
    #[error("the statement cannot be made")]
    Statement(#[from] manifest_schema::StatementError),
    /// A statement without a name.
    #[error("--by is empty: nobody hands over")]
    Nobody,
    /// A label's value.
    #[error(transparent)]
    Label(manifest_schema::text::LabelError),
    /// The folder of statements belongs to another bundle.
    #[error("{}: its statements are about bundle {found}, not {expected}", .folder.display())]
    OtherStatements {
        /// The folder.
        folder: PathBuf,
        /// The bundle of its last statement.
        found: manifest_schema::BundleId,
        /// The bundle that is handed over.
        expected: manifest_schema::BundleId,
    },
    /// There are too many statements.
    #[error("{}: there are {limit} statements already", .folder.display())]
    StatementsFull {
        /// The folder.
        folder: PathBuf,
        /// The limit.
        limit: u32,
    },
    /// An age key.
    #[error(transparent)]
    Age(#[from] bundle::AgeError),
    /// The passphrase.
    #[error(transparent)]
    Passphrase(#[from] console::PassphraseError),
    /// A key of a configuration that is named in two ways, or in none.
    #[error("sign: expected either `key: FILE`, or `by: FINGERPRINT` with or without `certificate: FILE`")]
    SignConfig,
    /// A certificate without a key in gpg-agent.
    #[error("--sign-certificate goes with --sign-by only; a secret key file holds its certificate")]
    NeedsSignBy,
    /// Several keys where one signs.
    #[error("several signing keys are named, where exactly one signs")]
    SeveralKeys,
    /// A file that would be overwritten.
    #[error("{}: is already there, and a key file is never overwritten", .0.display())]
    KeyExists(PathBuf),
    /// A file.
    #[error("{}: cannot be written", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// stdout.
    #[error("stdout cannot be written")]
    Stdout(#[source] std::io::Error),
}

impl Explain for Error {
    fn fault(&self) -> Fault {
        match self {
            Error::Folder(e) => folder_fault(e),
            Error::Registry(e) => registry_fault(e),
            Error::ReadConfig { .. } | Error::Config { .. } => Fault::Usage,
            Error::NoSeal { .. } | Error::Seal(_) | Error::Rejected { .. } | Error::OtherBundle { .. } => {
                Fault::Refused
            }
            Error::Damaged(_) | Error::CutSeal(_) => Fault::Damaged,
            Error::Signing(_)
            | Error::RegistriesD(_)
            | Error::Cosign(_)
            | Error::Age(_)
            | Error::Passphrase(_)
            | Error::SignConfig
            | Error::NeedsSignBy
            | Error::SeveralKeys
            | Error::NoFolder
            | Error::Roles(_)
            | Error::Nobody
            | Error::Label(_)
            | Error::OtherStatements { .. }
            | Error::StatementsFull { .. }
            | Error::KeyExists(_) => Fault::Usage,
            Error::HandOver { .. } | Error::Statement(_) | Error::Write { .. } | Error::Stdout(_) => Fault::Failed,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Error::Folder(e) => folder_hint(e),
            Error::Registry(e) => registry_hint(e),
            Error::Config { .. } => Some("docs/configuration.md lists every key".into()),
            Error::Signing(e) => signing_hint(e),
            Error::Age(e) => age_hint(e),
            Error::SeveralKeys => Some("name one, with --sign-key or --sign-by".into()),
            Error::NoSeal { .. } => Some(
                "name the bundle's own folder (it holds LABEL.txt); a bundle that was not packed to its end has no seal".into(),
            ),
            Error::CutSeal(_) => Some("copy the file from the medium again, or ask the sender for it".into()),
            Error::Seal(_) => Some("ask the sender for SHA256SUMS and SHA256SUMS.asc again".into()),
            Error::Rejected { source, .. } => Some(rejected_hint(source).into()),
            Error::OtherBundle { .. } => Some("check the media of one bundle at a time".into()),
            Error::Damaged(damage) => Some(damage.hint()),
            Error::HandOver { .. } => {
                Some("if the medium cannot be written, keep the statements beside it: --statements DIR".into())
            }
            Error::OtherStatements { .. } | Error::StatementsFull { .. } => {
                Some("name another folder with --statements".into())
            }
            Error::KeyExists(_) => Some("choose another folder, or move the file away".into()),
            Error::Passphrase(e) if e.hint().is_some() => e.hint(),
            Error::Passphrase(_) => Some(
                "name a passphrase file or set the variable that --help names for it; new keys can do with --no-passphrase".into(),
            ),
            Error::ReadConfig { .. }
            | Error::RegistriesD(_)
            | Error::Cosign(_)
            | Error::SignConfig
            | Error::NeedsSignBy
            | Error::NoFolder
            | Error::Roles(_)
            | Error::Statement(_)
            | Error::Nobody
            | Error::Label(_)
            | Error::Write { .. }
            | Error::Stdout(_) => None,
        }
    }
}

/// Who is at fault for what is wrong with a bundle's folder.
pub fn folder_fault(error: &bundle::FolderError) -> Fault {
    use bundle::FolderError as E;
    match error {
        E::Read { .. } => Fault::Failed,
        E::Missing(_) => Fault::Usage,
        E::Special { .. } | E::TooMany { .. } | E::TooLarge { .. } | E::Foreign { .. } => Fault::Refused,
    }
}

/// What to do about it.
pub fn folder_hint(error: &bundle::FolderError) -> Option<String> {
    use bundle::FolderError as E;
    match error {
        E::Read { .. } => Some("check the medium and the permissions of the folder".into()),
        E::Missing(_) => Some("name the folder that holds LABEL.txt".into()),
        E::Special { .. } | E::TooMany { .. } => {
            Some("a bundle's folder holds regular files only; copy it afresh".into())
        }
        E::TooLarge { .. } => None,
        E::Foreign { .. } => Some("keep every bundle in a folder of its own, under the name it was made with".into()),
    }
}

/// What to do about a key or certificate.
pub fn signing_hint(error: &signing::Error) -> Option<String> {
    use signing::{AgentError as A, Error as E};
    let text = match error {
        E::WrongPassphrase { .. } => "check the passphrase, and which key file is named",
        E::NoSigningKey { .. } => "if the key is on a card or in gpg-agent, name it with --sign-by FINGERPRINT",
        E::Agent { fault, .. } => match fault {
            A::Program { .. } => "install GnuPG 2.2 or later, or name a secret key file with --sign-key",
            A::NoCertificate => {
                "check the fingerprint and GNUPGHOME; import the certificate, or name its file with --sign-certificate"
            }
            A::OtherCertificates { .. } => "check the fingerprint, and which file is named",
            A::NoSecretKey => "`gpg --list-secret-keys` shows what there is; check GNUPGHOME, and plug in the card",
            A::NoSigningKey => "add a signing subkey, or name another key",
            A::WrongPassphrase | A::LongPassphrase { .. } => "check the passphrase, and which key is named",
            A::NoPinentry(_) => {
                "set GPG_TTY=$(tty), or give the passphrase with --sign-passphrase-file or SEALIFT_SIGN_PASSPHRASE"
            }
            A::NoLoopback => "let gpg-agent ask by itself: leave out the passphrase file and SEALIFT_SIGN_PASSPHRASE",
            A::NoCard => "plug in the card, then run the same command again",
            A::Cancelled => "run the same command again",
            A::Failed { .. } | A::Unreachable { .. } | A::Broken(_) => {
                "`gpg-connect-agent /bye` tries whether the agent runs; check GNUPGHOME"
            }
            A::Refused(_) | A::Protocol(_) | A::Algorithm(_) => return None,
        },
        E::Unusable { reason: signing::Reason::Expired { .. }, .. } => {
            "use another key, or extend this one: `gpg --quick-set-expire FINGERPRINT 1y`, for a key file after `gpg --import`, and \
             export it anew"
        }
        E::Unusable { reason: signing::Reason::Revoked { .. }, .. } => "use another key",
        _ => return None,
    };
    Some(text.into())
}

/// What to do about an age key.
pub fn age_hint(error: &bundle::AgeError) -> Option<String> {
    use bundle::AgeError as E;
    let text = match error {
        E::WrongPassphrase(_) => "check the passphrase, and which key file is named",
        E::NoRecipient => {
            "get the recipient (age1...) from the receiving side and name it with -r, or as `recipients:`"
        }
        E::SshRsa(_) | E::SshKind(_) => {
            "use an ssh-ed25519 key, or make an age identity (`sealift-import keygen identity`)"
        }
        E::NoPlugin(_) => "install the plugin, and check PATH",
        E::Debugging => "unset AGEDEBUG",
        E::Plugin(_) => "do what the plugin asks for, then run the same command again",
        _ => return None,
    };
    Some(text.into())
}

/// What to do when signatures do not count: what helps depends on why.
pub fn rejected_hint(error: &signing::Rejected) -> &'static str {
    use signing::Reason as R;
    let has = |wanted: fn(&R) -> bool| match error {
        signing::Rejected::BelowThreshold { faults, .. } => faults.iter().any(|f| wanted(&f.reason)),
        _ => false,
    };
    if has(|r| matches!(r, R::Revoked { .. })) {
        "signatures of a revoked key never count again: have the release signed anew with a valid key, whose certificate must \
         be configured here"
    } else if has(|r| matches!(r, R::Expired { .. })) {
        "have the release signed anew with a valid key; if the key's owner has extended it, put the new certificate in place of \
         the old one, or beside it in the trust folder"
    } else if has(|r| matches!(r, R::Future { .. })) {
        "compare the clocks of both sides; clock_tolerance says how far they may differ"
    } else {
        "ask the sender, by another way than this medium, which key released it; a new key must be configured here first"
    }
}

/// Who is at fault when a registry cannot be used.
pub fn registry_fault(error: &registry::Error) -> Fault {
    if error.is_configuration() { Fault::Usage } else { Fault::Failed }
}

/// What to do about it.
pub fn registry_hint(error: &registry::Error) -> Option<String> {
    use registry::Error as E;
    let text = match error {
        E::NotFound { .. } => "check the name and the tag",
        E::Denied { .. } => "check the credentials: `podman login` or `skopeo login` to this registry, or --authfile",
        E::Tls { .. } => {
            "put the registry's CA certificate into certs.d (docs/configuration.md), or name the folder with --cert-dir"
        }
        e if e.is_transient() => "run the same command again when the registry answers",
        _ => return None,
    };
    Some(text.into())
}

/// Who is at fault when an image cannot be read from where it is.
pub fn source_fault(error: &SourceError) -> Fault {
    match error {
        SourceError::Registry(e) => registry_fault(e),
        SourceError::Missing { .. }
        | SourceError::NotRegular { .. }
        | SourceError::LayoutVersion { .. }
        | SourceError::DirVersion { .. }
        | SourceError::Archive { .. }
        | SourceError::Empty { .. }
        | SourceError::Several { .. }
        | SourceError::NoSuchImage { .. }
        | SourceError::Twice { .. }
        | SourceError::Unnamed { .. }
        | SourceError::NameDigest { .. } => Fault::Usage,
        SourceError::Io { .. }
        | SourceError::TooLarge { .. }
        | SourceError::TooMany { .. }
        | SourceError::Size { .. }
        | SourceError::Content { .. }
        | SourceError::Document { .. }
        | SourceError::Json { .. }
        | SourceError::LayerCount { .. }
        | SourceError::DiffId { .. }
        | SourceError::ConfigName { .. }
        | SourceError::Foreign { .. } => Fault::Failed,
    }
}

/// What to do about it.
pub fn source_hint(error: &SourceError) -> Option<String> {
    let text = match error {
        SourceError::Registry(e) => return registry_hint(e),
        SourceError::Archive { fault: ArchiveFault::Compressed(_), .. } => "decompress the archive first",
        SourceError::Several { .. } => "name one of them behind the path: oci:DIR:NAME",
        SourceError::Unnamed { .. } => "say what it is called: SOURCE=HOST/PATH:TAG",
        SourceError::Foreign { .. } => {
            "make one of its urls reachable from here, or build the image with layers that may be distributed"
        }
        SourceError::Content { .. } | SourceError::Size { .. } => "the source is damaged; make it again",
        _ => return None,
    };
    Some(text.into())
}

/// A message that may have several lines, each made safe to show.
fn lines(text: &OutsideText) -> String {
    let lines: Vec<String> = text.raw().lines().map(|l| manifest_schema::text::escape(l).to_string()).collect();
    lines.join("\n")
}
