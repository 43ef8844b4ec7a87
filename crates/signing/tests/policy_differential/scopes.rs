//! Which scope decides?

use std::collections::BTreeSet;

use serde_json::json;
use signing::{PolicyImage, PolicyName};
use testkit::tools::{command, need, run_ok};

use crate::world::{ACCEPT, REPOSITORIES, TAGS, World, judged};
use crate::{Numbers, Verdicts, each};

/// Policies with random scopes, each of which accepts or refuses everything.
#[test]
fn scopes_are_chosen_as_skopeo_does() {
    if !need(&["skopeo", "docker-registry"]) {
        return;
    }
    let world = World::new();
    let digest = world.image.digest();
    let mut scopes = BTreeSet::from(["".to_string(), "*".into(), "docker.io".into(), "*.io".into(), "busybox".into()]);
    for repository in REPOSITORIES {
        let mut name = repository;
        scopes.extend([format!("{name}:1"), format!("{name}:latest"), format!("{name}@{digest}"), format!("{name}/")]);
        while let Some((parent, _)) = name.rsplit_once('/') {
            scopes.insert(name.into());
            name = parent;
        }
        let host = name.split(':').next().unwrap();
        scopes.extend([name.to_string(), host.into(), format!("*.{host}"), format!("{host}:*"), format!("*{name}")]);
        for (dot, _) in host.match_indices('.') {
            scopes.extend([format!("*{}", &host[dot..]), host[dot..].into(), format!("*{}:5000", &host[dot..])]);
        }
    }
    let scopes: Vec<String> = scopes.into_iter().collect();
    let mut numbers = Numbers(7);
    let mut cases = Vec::new();
    for case in 0..140 {
        let repository = *numbers.one(&REPOSITORIES);
        let name = match numbers.below(3) {
            0 => format!("{repository}@{digest}"),
            _ => format!("{repository}:{}", numbers.one(&TAGS)),
        };
        // What could be meant is taken more often than what could not.
        let meant: Vec<&String> = scopes.iter().filter(|s| !s.is_empty() && name.starts_with(*s)).collect();
        let accepted = numbers.below(2) == 0;
        let kind = |accepted: bool| json!([{ "type": if accepted { ACCEPT } else { "reject" } }]);
        let mut chosen = serde_json::Map::new();
        for _ in 0..numbers.below(4) {
            chosen.insert((*numbers.one(&meant)).clone(), kind(numbers.below(2) == 0));
        }
        for _ in 0..numbers.below(8) {
            chosen.insert(numbers.one(&scopes).clone(), kind(numbers.below(2) == 0));
        }
        let transport = if numbers.below(12) == 0 { "dir-like" } else { "docker" };
        let policy = json!({ "default": kind(accepted), "transports": { transport: chosen, "dir": {} } });
        cases.push((format!("scopes: {case} {name} {policy}"), name, policy));
    }
    let verdicts = Verdicts::new("scopes");
    each(&cases, |(case, name, policy)| world.compare(&verdicts, case, policy, name, &[]));
    folders_are_scopes(&world, &verdicts);
    verdicts.end(140);
    assert!(world.registry.tags().len() >= REPOSITORIES.len());
}

/// The same with folders, of which links are another name.
fn folders_are_scopes(world: &World, verdicts: &Verdicts) {
    let folder = world.folder();
    let real = folder.join("real/images/app");
    world.image.write(&real, &[]);
    let link = folder.join("link");
    std::os::unix::fs::symlink(folder.join("real/images"), &link).unwrap();
    let layout = folder.join("real/layout");
    let copy = ["copy", "--insecure-policy"];
    let mut skopeo = command("skopeo", world.home.path());
    skopeo.args(copy.iter().rev()).arg(format!("dir:{}", real.display())).arg(format!("oci:{}:name", layout.display()));
    run_ok(&mut skopeo);
    let top = folder.canonicalize().unwrap();
    let at = |path: &str| top.join(path).display().to_string();
    let mut cases = Vec::new();
    for (transport, source) in [("dir", real), ("dir", link.join("app")), ("oci", layout)] {
        for (scope, accept) in [
            (at("real/images/app"), true),
            (at("real/images"), true),
            (at("real/imag"), true),
            (at("real/layout"), true),
            (at("real/layout:name"), true),
            (at("real"), true),
            (at("link"), true),
            (at("link/app"), true),
            (at(""), true),
            ("/".into(), true),
            ("".into(), true),
            ("relative".into(), true),
            ("/tmp".into(), true),
            (at("real/./images"), true),
        ] {
            let (scope, kind) = (scope.trim_end_matches('/').to_string(), if accept { ACCEPT } else { "reject" });
            let policy = json!({
                "default": [{ "type": "reject" }],
                "transports": { transport: { scope: [{ "type": kind }] } }
            });
            cases.push((transport, source.clone(), policy));
        }
    }
    each(&cases, |(transport, source, policy)| {
        let folder = world.folder();
        let file = folder.join("policy.json");
        std::fs::write(&file, policy.to_string()).unwrap();
        let name = if *transport == "oci" { ":name" } else { "" };
        let theirs = world.skopeo(&folder, &format!("{transport}:{}{name}", source.display()), &[]);
        let scope = source.canonicalize().unwrap();
        let name = PolicyName::Other { transport, scope: scope.to_str().unwrap() };
        let image = PolicyImage { name, digests: &[world.image.digest()], simple: &[], sigstore: &[] };
        let case = format!("folders: {transport}:{} {policy}", source.display());
        verdicts.compare(&case, judged(&file, &image), theirs);
    });
}
