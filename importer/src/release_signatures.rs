//! Signatures of OpenShift release images, handed over to clusters: in the layout that the cluster-version-operator reads
//! from a web server (`sha256=<hex>/signature-<N>`), and as ConfigMaps for a cluster that cannot reach one
//! (openshift/library-go, `pkg/verify`).

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use console::Progress;
use manifest_schema::Digest;
use serde_json::{Map, Value, json};
use signing::{Lookaside, LookasideError};

use crate::error::Error;
use crate::handover::HandOverError;
use crate::handover::yaml;

/// Adds signatures, each for a digest, to a folder. More than clusters read are left out, with a warning.
///
/// # Errors
/// [`Error::Lookaside`], [`HandOverError::HandOver`].
pub fn hand_over(folder: &Path, signatures: &[(Digest, Vec<u8>)], progress: &Progress) -> Result<(), Error> {
    for (digest, signature) in signatures {
        let all = match Lookaside::new(folder).add_release(digest, signature) {
            Ok(all) => all,
            Err(e @ (LookasideError::Full { .. } | LookasideError::NotASignature { .. })) => {
                progress.warn(format_args!("{e}; a signature of the release {digest} is not handed over"));
                continue;
            }
            Err(e) => return Err(e.into()),
        };
        let path = folder.join(format!("{}.json", name(digest)));
        let map = format!("{:#}\n", config_map(digest, &all));
        replace(&path, map.as_bytes()).map_err(|source| HandOverError::HandOver { path, source })?;
    }
    Ok(())
}

fn name(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm().name(), digest.hex())
}

/// The ConfigMaps for the releases whose signatures are in a folder, in YAML; none if there is no folder.
///
/// # Errors
/// [`Error::Lookaside`], [`HandOverError::ClusterFolder`].
pub fn config_maps(folder: &Path) -> Result<Vec<(Digest, Vec<u8>)>, Error> {
    let failed = |source| HandOverError::ClusterFolder { path: folder.into(), source };
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut releases = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        let digest = name.to_str().and_then(|name| name.split_once('=')).map(|(kind, hex)| format!("{kind}:{hex}"));
        releases.extend(digest.and_then(|digest| digest.parse::<Digest>().ok()));
    }
    releases.sort();
    let (tree, mut maps) = (Lookaside::new(folder), Vec::new());
    for digest in releases {
        let directory = Lookaside::release_path(&digest);
        let read = (1..).map(|number| tree.signature(&directory, number).transpose());
        let signatures: Vec<Vec<u8>> = read.map_while(|found| found).collect::<Result<_, _>>()?;
        if !signatures.is_empty() {
            maps.push((digest, yaml(&config_map(&digest, &signatures))));
        }
    }
    Ok(maps)
}

/// The ConfigMap for one release image. `oc apply -f` takes JSON too.
fn config_map(digest: &Digest, signatures: &[Vec<u8>]) -> Value {
    let entry = |(n, bytes): (u32, &Vec<u8>)| (format!("{}-{n}", name(digest)), Value::from(STANDARD.encode(bytes)));
    let data: Map<String, Value> = (1..).zip(signatures).map(entry).collect();
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name(digest),
            "namespace": "openshift-config-managed",
            "labels": { "release.openshift.io/verification-signatures": "" },
        },
        "binaryData": data,
    })
}

/// Writes a file beside the old one and puts it in its place.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let new = path.with_extension("json.new");
    match fs::remove_file(&new) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    console::write_new(&new, bytes)?;
    fs::rename(&new, path)
}
