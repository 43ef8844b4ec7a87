//! Where are the signatures?

use std::collections::BTreeSet;
use std::fmt::Write as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use manifest_schema::{Reference, Timestamp};
use serde_json::json;
use signing::{FetchSmall, PolicyImage, PolicyName, RegistriesD, fetch_signatures, payload};
use testkit::tools::{need, run};

use crate::common::{from_now, key, request, sign_message};
use crate::world::{World, copied, judged, write_numbered};
use crate::{Numbers, Verdicts, each};

/// Fetches files, as a program would.
struct Files;

impl FetchSmall for Files {
    type Error = std::io::Error;
    fn fetch(&self, url: &str, _: u64) -> Result<Option<Vec<u8>>, Self::Error> {
        let path = url.strip_prefix("file://").ok_or_else(|| std::io::Error::other("not a file"))?;
        match std::fs::read(path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// Folders of registries.d files with random sections: whether the tree that is found has the signature.
#[test]
fn signatures_are_looked_for_where_skopeo_does() {
    if !need(&["gpg", "skopeo", "docker-registry"]) {
        return;
    }
    let world = World::new();
    let signer = key(&request("signer")).0;
    let (digest, host) = (world.image.digest(), world.registry.host());
    let name: Reference = format!("{host}/team/app:1").parse().unwrap();
    let honest = payload(&name.to_string(), &digest, "test", Timestamp::now());
    let signature = sign_message(&signer, &honest, from_now(-1));
    let trees = world.home.path().join("trees");
    let at = |tree: &str| trees.join(tree).join(format!("team/app@sha256={}", digest.hex()));
    write_numbered(&at("signed"), &[&signature]);
    write_numbered(&at("second"), &[&sign_message(&signer, b"{}", from_now(-1)), &signature]);
    write_numbered(&at("spoilt"), &[&signature, b"<html>404</html>"]);
    write_numbered(&at("other-host"), &[]);
    let tree = |tree: &str| format!("file://{}", trees.join(tree).display());
    let policy = world.home.path().join("policy.json");
    let document = json!({ "default": [{
        "type": "signedBy", "keyType": "GPGKeys", "keyData": STANDARD.encode(&signer.certificate_armored)
    }] });
    std::fs::write(&policy, document.to_string()).unwrap();

    let host_only = host.split(':').next().unwrap();
    let scopes = [
        format!("{host}/team/app:1"),
        format!("{host}/team/app:2"),
        format!("{host}/team/app"),
        format!("{host}/team"),
        format!("{host}/tea"),
        host.to_string(),
        host_only.into(),
        "*.0.0.1".into(),
        "*.1".into(),
    ];
    let mut numbers = Numbers(3);
    let section = |numbers: &mut Numbers| {
        let mut lines = Vec::new();
        for member in ["lookaside", "sigstore", "lookaside-staging", "sigstore-staging", "unknown"] {
            let tree = match numbers.below(8) {
                0 | 1 => tree("signed"),
                2 => tree("empty"),
                3 => tree(["second", "spoilt"][numbers.below(2)]),
                4 => String::new(),
                _ => continue,
            };
            lines.push(format!("{member}: '{tree}'"));
        }
        format!("{{{}}}", lines.join(", "))
    };
    let mut cases: Vec<Vec<(String, String)>> = (0..70)
        .map(|_| {
            let (mut files, mut used) = (Vec::new(), BTreeSet::new());
            for n in 0..numbers.below(3) {
                let mut text = String::new();
                if numbers.below(2) == 0 && used.insert(String::new()) {
                    writeln!(text, "default-docker: {}", section(&mut numbers)).unwrap();
                }
                text += "docker:\n";
                for _ in 0..numbers.below(5) {
                    let scope = numbers.one(&scopes).clone();
                    // A section in two files is an error, which is not always what a case is about.
                    if used.insert(scope.clone()) || numbers.below(8) == 0 {
                        let section = section(&mut numbers);
                        if !text.contains(&format!("'{scope}'")) {
                            writeln!(text, "  '{scope}': {section}").unwrap();
                        }
                    }
                }
                let ending = if numbers.below(10) == 0 { "yml" } else { "yaml" };
                files.push((format!("{n}.{ending}"), text));
            }
            files
        })
        .collect();
    let default = format!("default-docker: {{lookaside: '{}'}}\n", tree("signed"));
    let file = |text: &str| ("a.yaml".to_string(), text.to_string());
    for text in
        ["", "# nothing", "{}", "null", "docker:", "docker: {}", "default-docker:", "x: 1", "- x", "x", "docker: [x]"]
    {
        cases.push(vec![("0.yaml".into(), default.clone()), file(text)]);
    }
    for text in [
        format!("docker: {{'{host}': }}"),
        format!("docker: {{'{host}': x}}"),
        format!("docker: {{'{host}': {{lookaside: [x]}}}}"),
        format!("docker: {{'{host}': {{use-sigstore-attachments: x}}}}"),
        format!("docker: {{'{host}': {{}}, '{host}': {{}}}}"),
        format!("docker: {{'{host}': {{lookaside: '{}', x: {{y: z}}}}}}", tree("signed")),
    ] {
        cases.push(vec![("0.yaml".into(), default.clone()), file(&text)]);
    }

    let verdicts = Verdicts::new("registries.d");
    each(&cases, |files| {
        let folder = world.folder();
        let registries = folder.join("registries.d");
        std::fs::create_dir(&registries).unwrap();
        for (name, text) in files {
            std::fs::write(registries.join(name), text).unwrap();
        }
        let mut skopeo = world.command(&policy, &registries);
        skopeo
            .args(["--src-tls-verify=false", &format!("docker://{name}")])
            .arg(format!("dir:{}", folder.join("out").display()));
        let theirs = copied(&run(&mut skopeo));
        let ours = RegistriesD::load(&[registries]).map_err(|e| e.to_string()).and_then(|registries| {
            let base =
                registries.lookaside(name.repository(), name.tag()).map_or_else(|| tree("built in"), str::to_string);
            let found = fetch_signatures(&base, name.repository(), &digest, &Files).map_err(|e| e.to_string())?;
            let found: Vec<&[u8]> = found.iter().map(Vec::as_slice).collect();
            let image =
                PolicyImage { name: PolicyName::Docker(&name), digests: &[digest], simple: &found, sigstore: &[] };
            Ok(judged(&policy, &image))
        });
        let twice = files.iter().any(|(_, text)| text.contains("{}, '"));
        let case = if twice { "a scope twice in one file".into() } else { format!("{files:?}") };
        verdicts.compare(&case, ours.unwrap_or_else(|e| (false, e)), theirs);
    });
    verdicts.end(80);
}
