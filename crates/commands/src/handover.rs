//! Who had a bundle on its way: the statements in `handover/`, and who signed them.
//!
//! The statements are claims of people who had the medium in their hands. A known courier's signature shows that he made one;
//! nothing shows that none was left out at the end.

use std::path::{Path, PathBuf};

use bundle::{
    ChainProblem, Folder, FolderError, FoundStatement, HANDOVER, read_statements, statement_certificate_name,
    statement_signature_name,
};
use manifest_schema::{BundleId, Digest, LIMITS, OutsideText, Statement, Timestamp};
use serde::Serialize;
use signing::{Certificates, Fingerprint, Trust};

/// What statements are held against.
#[derive(Debug, Clone, Copy)]
pub struct ChainRules<'a> {
    /// The bundle.
    pub bundle: BundleId,
    /// The digests of its seals (the bytes of `SHA256SUMS`), of every revision that is here.
    pub seals: &'a [Digest],
    /// The certificates of known couriers.
    pub couriers: Option<&'a Certificates>,
    /// The time that certificates are judged at.
    pub now: Timestamp,
}

/// The statements of one folder.
#[derive(Debug, Clone, Serialize)]
pub struct Chain {
    /// The folder that they lie in.
    pub folder: PathBuf,
    /// The statements that could be read, in order.
    pub statements: Vec<ChainStatement>,
    /// What is wrong with them. It says nothing about the bundle.
    pub problems: Vec<String>,
}

/// A statement, and who signed it.
#[derive(Debug, Clone, Serialize)]
pub struct ChainStatement {
    /// The digest of its bytes.
    pub digest: Digest,
    /// What it says.
    #[serde(flatten)]
    pub statement: Statement,
    /// Who signed it.
    pub signature: CourierSignature,
}

/// Who signed a statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum CourierSignature {
    /// Nobody.
    None,
    /// A courier who is known here.
    Known(Courier),
    /// Someone whose certificate lies beside the statement, and is not known here.
    Unknown(Courier),
    /// The signature does not count.
    Bad {
        /// Why.
        reason: String,
    },
}

/// A signer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Courier {
    /// The certificate.
    pub fingerprint: Fingerprint,
    /// What its owner calls himself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<OutsideText>,
}

impl CourierSignature {
    /// The signer and whether he is known here, if the signature is good.
    pub fn signer(&self) -> Option<(&Fingerprint, bool)> {
        match self {
            CourierSignature::Known(courier) => Some((&courier.fingerprint, true)),
            CourierSignature::Unknown(courier) => Some((&courier.fingerprint, false)),
            CourierSignature::None | CourierSignature::Bad { .. } => None,
        }
    }
}

/// Reads the statements in the folder `handover` of a bundle's folder. There may be none.
pub fn read_chain(bundle: &Folder, rules: &ChainRules<'_>) -> Chain {
    match bundle.folder(HANDOVER) {
        Ok(folder) => read_chain_in(&folder, rules),
        Err(FolderError::Missing(path)) => Chain { folder: path, statements: Vec::new(), problems: Vec::new() },
        Err(e) => broken(&bundle.path().join(HANDOVER), &e),
    }
}

/// Reads the statements in a folder of their own. It may be missing.
pub fn read_chain_at(folder: &Path, rules: &ChainRules<'_>) -> Chain {
    match Folder::open(folder) {
        Ok(folder) => read_chain_in(&folder, rules),
        Err(FolderError::Missing(path)) => Chain { folder: path, statements: Vec::new(), problems: Vec::new() },
        Err(e) => broken(folder, &e),
    }
}

fn broken(folder: &Path, error: &FolderError) -> Chain {
    Chain { folder: folder.into(), statements: Vec::new(), problems: vec![with_cause(error)] }
}

fn read_chain_in(folder: &Folder, rules: &ChainRules<'_>) -> Chain {
    let (found, problems) = read_statements(folder, rules.bundle, rules.seals);
    let mut problems: Vec<String> = problems.iter().map(problem_text).collect();
    let mut statements = Vec::new();
    for FoundStatement { number, statement, bytes, digest } in found {
        let signature = signature_of(folder, number, bytes, rules);
        if let CourierSignature::Bad { reason } = &signature {
            problems.push(format!("statement {number}: the signature does not count: {reason}"));
        }
        statements.push(ChainStatement { digest, statement, signature });
    }
    Chain { folder: folder.path().into(), statements, problems }
}

fn problem_text(problem: &ChainProblem) -> String {
    match problem {
        ChainProblem::Folder(e) => with_cause(e),
        other => other.to_string(),
    }
}

fn with_cause(error: &FolderError) -> String {
    match error {
        FolderError::Read { source, .. } => format!("{error}: {source}"),
        other => other.to_string(),
    }
}

fn signature_of(folder: &Folder, number: u32, statement: Vec<u8>, rules: &ChainRules<'_>) -> CourierSignature {
    let bad = |reason: String| CourierSignature::Bad { reason };
    let optional = |name: &str| match folder.read_file(name, LIMITS.signature) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(FolderError::Missing(_)) => Ok(None),
        Err(e) => Err(with_cause(&e)),
    };
    let signature = match optional(&statement_signature_name(number)) {
        Ok(Some(signature)) => signature,
        Ok(None) => return CourierSignature::None,
        Err(reason) => return bad(reason),
    };
    let judged = |certificates: &Certificates| -> Result<Courier, String> {
        let trust = Trust::new(certificates.clone(), 1, rules.now).map_err(|e| e.to_string())?;
        let authentic = trust.verify_detached(statement.clone(), &signature).map_err(|e| e.to_string())?;
        let signer = authentic.signers().first().ok_or("nobody signed")?;
        Ok(Courier { fingerprint: signer.fingerprint.clone(), user_id: signer.user_id.clone() })
    };
    let known = rules.couriers.map(|couriers| (couriers, judged(couriers)));
    if let Some((_, Ok(courier))) = known {
        return CourierSignature::Known(courier);
    }
    let name = statement_certificate_name(number);
    let beside = match optional(&name) {
        Ok(Some(bytes)) => Certificates::from_bytes(&bytes, Path::new(&name)).map_err(|e| e.to_string()),
        Ok(None) => Err("by a key that is not known here".into()),
        Err(reason) => Err(reason),
    };
    match (beside.and_then(|certificates| judged(&certificates)), known) {
        // The certificate on the medium may be older than the one known here, and lack its revocation.
        (Ok(courier), Some((couriers, Err(reason)))) if couriers.fingerprints().contains(&courier.fingerprint) => {
            bad(reason)
        }
        (Ok(courier), _) => CourierSignature::Unknown(courier),
        (Err(reason), _) => bad(reason),
    }
}

/// The statements of a folder for people; empty if there are none and nothing is wrong.
pub fn text(chain: &Chain) -> String {
    if chain.statements.is_empty() && chain.problems.is_empty() {
        return String::new();
    }
    let mut text = format!("handed over, as stated in {}:\n", chain.folder.display());
    let rows: Vec<_> = chain.statements.iter().map(cells).collect();
    if !rows.is_empty() {
        text += &console::table(&[">NUMBER", "TIME", "BY", "TO", "BAG", "VOLUMES", "SIGNED"], &rows);
    }
    for ChainStatement { statement, .. } in &chain.statements {
        if let Some(note) = &statement.note {
            text += &format!("note of statement {}: {note}\n", statement.number);
        }
    }
    for problem in &chain.problems {
        text += &format!("warning: {problem}\n");
    }
    text
}

fn cells(row: &ChainStatement) -> Vec<String> {
    let s = &row.statement;
    let or_dash = |value: &Option<manifest_schema::LabelValue>| value.as_ref().map_or("-".into(), ToString::to_string);
    let signed = match &row.signature {
        CourierSignature::None => "not signed".into(),
        CourierSignature::Known(courier) => format!("by {}", courier.fingerprint),
        CourierSignature::Unknown(courier) => format!("by {}, not known here", courier.fingerprint),
        CourierSignature::Bad { .. } => "BAD".into(),
    };
    let volumes: Vec<String> = [
        ("good", &s.volumes.good),
        ("damaged", &s.volumes.damaged),
        ("missing", &s.volumes.missing),
        ("unreadable", &s.volumes.unreadable),
    ]
    .into_iter()
    .filter(|(_, set)| !set.is_empty())
    .map(|(word, set)| format!("{} {word}", set.len()))
    .collect();
    let volumes = if volumes.is_empty() { "none".into() } else { volumes.join(", ") };
    vec![s.number.to_string(), s.at.to_string(), s.by.to_string(), or_dash(&s.to), or_dash(&s.bag), volumes, signed]
}
