//! The policy for QA clusters accepts what the streams' policies accept at the origin, and nothing else: compared name by name and
//! signature by signature with what the importer itself would say, and where it would put the image.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use manifest_schema::{Digest, Image, MediaType, OutsideText, Reference, Repository, Scope, TagRef, Timestamp};
use serde_json::{Value, json};
use signing::{ImagePolicy, PolicyImage, PolicyName};
use tempfile::TempDir;
use testkit::Key;

use super::policy::Keys;
use super::staging::{Stream, rules};
use crate::config::Mapping;
use crate::destination::{self, Rules};

const DIGEST: Digest = Digest::Sha256([0xab; 32]);

/// Repositories at origins; all of them under some tags, and by digest.
const ORIGINS: [&str; 11] = [
    "dev.example/team/app",
    "dev.example/team/app/sub",
    "dev.example/team/lib",
    "dev.example/pay/api",
    "dev.example/pay/api/v2",
    "dev.example/pay",
    "dev.example/payments/api",
    "dev.example:5000/pay/api",
    "other.example/pay/api",
    "other.example/x",
    "docker.io/library/busybox",
];

/// Keys and the signatures that they make.
struct Signers {
    folder: TempDir,
    keys: [Key; 2],
}

impl Signers {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let keys = ["one", "two"].map(|name| Key::new(folder.path(), name));
        Self { folder, keys }
    }

    /// A signature by each key, under every name that a signature could have here.
    fn signatures(&self, names: &BTreeSet<Reference>) -> Vec<(String, Vec<u8>)> {
        let sign = |name: &Reference| {
            self.keys.each_ref().map(|key| {
                let signature = key.secret.sign_simple(name, &DIGEST, Timestamp::now(), "test").expect("a signature");
                (format!("{name} by {}", key.certificate_file.display()), signature)
            })
        };
        names.iter().flat_map(sign).collect()
    }

    fn policy(&self, name: &str, docker: &Value, default: &str) -> ImagePolicy {
        let text = json!({ "default": [{ "type": default }], "transports": { "docker": docker } }).to_string();
        let path = self.folder.path().join(name);
        fs::write(&path, text).expect("a file");
        ImagePolicy::load(&path).expect("a policy")
    }
}

fn signed_by(key: &str) -> Value {
    json!([{ "type": "signedBy", "keyType": "GPGKeys", "keyPath": format!("{key}.asc") }])
}

fn signed_as(key: &str, identity: Value) -> Value {
    let mut requirement = signed_by(key);
    requirement[0]["signedIdentity"] = identity;
    requirement
}

/// A stream of a test.
struct Line {
    origins: Vec<Scope>,
    to: Rules,
    policy: Option<ImagePolicy>,
}

impl Line {
    fn new(origins: &[&str], to: &[(&str, &str)], policy: Option<ImagePolicy>) -> Self {
        Self { origins: origins.iter().map(|o| o.parse().expect("a scope")).collect(), to: mappings(to), policy }
    }
}

fn mappings(to: &[(&str, &str)]) -> Rules {
    let scope = |text: &str| text.parse().expect("a scope");
    let mapping = |(from, to): &(&str, &str)| Mapping { from: scope(from), to: scope(to) };
    Rules { mappings: to.iter().map(mapping).collect(), prefix: None }
}

fn references(repository: &Repository) -> [Reference; 3] {
    let tagged = |tag: &str| Reference::tagged(repository.clone(), tag.parse().expect("a tag"));
    [tagged("1"), tagged("2"), Reference::pinned(repository.clone(), DIGEST)]
}

/// Where the importer would put a repository's images.
fn place(origin: &Repository, line: &Line, staging: &Rules) -> Option<Repository> {
    if !line.origins.iter().any(|scope| scope.contains(origin)) {
        return None;
    }
    let image = Image {
        asked: OutsideText::new("test"),
        origin: Reference::tagged(origin.clone(), "1".parse().expect("a tag")),
        digest: DIGEST,
        media_type: MediaType::OCI_MANIFEST.parse().expect("a media type"),
        size: 1,
        platforms: vec![],
        sparse: false,
        signatures: vec![],
        referrers: vec![],
        release: vec![],
    };
    let production = destination::destination(&image, &line.to).ok()?;
    Some(destination::staging(&production, staging).ok()?.repository)
}

/// The repositories whose images the importer would put into another one.
fn comes_from(staged: &Repository, line: &Line, staging: &Rules) -> BTreeSet<Repository> {
    let back = |mappings: &[Mapping], repository: &Repository| -> Vec<Repository> {
        let back = |m: &Mapping| m.to.strip(repository).and_then(|rest| m.from.join(&rest).ok());
        mappings.iter().filter_map(back).collect()
    };
    let production = back(&staging.mappings, staged);
    let origins = production.iter().flat_map(|repository| back(&line.to.mappings, repository));
    origins.filter(|origin| place(origin, line, staging).as_ref() == Some(staged)).collect()
}

fn accepts(policy: &ImagePolicy, image: &Reference, signature: &[u8]) -> bool {
    let signature = [signature];
    let image = PolicyImage { name: PolicyName::Docker(image), digests: &[DIGEST], simple: &signature, sigstore: &[] };
    policy.judge(&image, Timestamp::now()).accepted
}

/// What came out.
struct Outcome {
    policy: Value,
    left_out: Vec<String>,
    /// How many pairs of an image and a signature were accepted.
    accepted: usize,
    /// Of how many only the origin's policy would have accepted.
    lost: usize,
}

impl Outcome {
    fn scopes(&self) -> Vec<&str> {
        let scopes = self.policy["transports"]["docker"].as_object().expect("scopes");
        scopes.keys().map(String::as_str).collect()
    }

    fn demands(&self, scope: &str) -> &Value {
        &self.policy["transports"]["docker"][scope][0]
    }
}

/// Makes the policy and compares it. What is `lost` lies below a scope that is told as left out.
fn compared(signers: &Signers, lines: &[(&str, Line)], staging: &[(&str, &str)]) -> Outcome {
    let staging = mappings(staging);
    let streams: Vec<Stream<'_>> = lines
        .iter()
        .map(|(name, line)| Stream {
            name,
            images: line.policy.as_ref(),
            origins: Some(&line.origins),
            to: &line.to.mappings,
            releases: &[],
        })
        .collect();
    let folder = tempfile::tempdir().expect("a folder");
    let made = rules(&streams, &staging.mappings, Keys::new(&folder.path().display().to_string()));
    for (name, bytes) in made.keys.files() {
        fs::write(folder.path().join(name), bytes).expect("a file");
    }
    let policy = ImagePolicy::parse(&made.policy_json(), Path::new("/nowhere")).expect("a policy");

    let origins: Vec<Repository> = ORIGINS.iter().map(|o| o.parse().expect("a repository")).collect();
    // All that the streams bring, and what somebody else could put into staging: anything below what its mappings name.
    let mut repositories: BTreeSet<Repository> =
        lines.iter().flat_map(|(_, line)| origins.iter().filter_map(|origin| place(origin, line, &staging))).collect();
    for mapping in &staging.mappings {
        for origin in &origins {
            let paths = (0..)
                .zip(origin.path().split('/'))
                .map(|(n, _)| origin.path().splitn(n + 1, '/').last().unwrap_or_default().to_string());
            for path in paths.chain(["all/pay/api".into(), "all/team/app".into(), "all".into()]) {
                repositories.insert(mapping.to.join(&path).expect("a repository"));
            }
        }
    }
    let from = |repository: &Repository| {
        let lines = lines.iter().map(|(_, line)| line);
        lines.flat_map(|line| comes_from(repository, line, &staging).into_iter().map(move |o| (line, o))).collect()
    };
    let mut places: BTreeMap<Repository, Vec<(&Line, Repository)>> =
        repositories.into_iter().map(|repository| (repository.clone(), from(&repository))).collect();
    let mut names: BTreeSet<Reference> = origins.iter().flat_map(references).collect();
    let landed = places.iter().filter(|(_, from)| !from.is_empty());
    names.extend(landed.flat_map(|(place, _)| references(place).into_iter().take(1)));
    names.extend(["ci.example/app:1", "ci.example/api:1"].map(|name| name.parse().expect("a reference")));
    let signatures = signers.signatures(&names);

    // A host has no images of its own name; where anything below it is accepted, something of that name is too.
    let hosts = lines.iter().flat_map(|(_, line)| &line.to.mappings).filter(|m| !m.from.to_string().contains('/'));
    for to in hosts.filter_map(|mapping| mapping.to.join("").ok()) {
        let place = destination::staging(&TagRef { repository: to, tag: "1".parse().expect("a tag") }, &staging);
        place.ok().and_then(|place| places.remove(&place.repository));
    }
    let left_out: Vec<String> = made.left_out.iter().map(ToString::to_string).collect();
    let (mut accepted, mut lost) = (0, 0);
    for (place, from) in &places {
        for image in references(place) {
            let unsaid = made.left_out.iter().filter_map(|left| left.scope.as_deref());
            let is_left_out = unsaid.into_iter().any(|scope| {
                image.to_string() == scope || scope.parse().is_ok_and(|scope: Scope| scope.contains(place))
            });
            for (name, signature) in &signatures {
                let found = accepts(&policy, &image, signature);
                let judge = |(line, origin): &(&Line, Repository)| {
                    let origin = image.in_repository(origin.clone());
                    line.policy.as_ref().is_some_and(|policy| accepts(policy, &origin, signature))
                };
                let by_all = !from.is_empty() && from.iter().all(judge);
                accepted += usize::from(found);
                assert!(!found || by_all, "{image}, signed {name}, is accepted here and not at the origin");
                if by_all && !found {
                    assert!(
                        is_left_out,
                        "{image}, signed {name}, is accepted at the origin and not here: {left_out:?}"
                    );
                    lost += 1;
                }
            }
        }
    }
    let policy = serde_json::from_slice(&made.policy_json()).expect("JSON");
    Outcome { policy, left_out, accepted, lost }
}

const STAGING: [(&str, &str); 1] = [("prod.example", "qa.example/in")];

#[test]
fn one_stream_under_one_name() {
    let signers = Signers::new();
    let policy = signers.policy("a.json", &json!({ "dev.example": signed_by("one") }), "reject");
    let line = Line::new(&["dev.example"], &[("dev.example", "prod.example/all")], Some(policy));
    let outcome = compared(&signers, &[("a", line)], &STAGING);
    assert_eq!(outcome.scopes(), ["qa.example/in/all"]);
    assert_eq!(
        outcome.demands("qa.example/in/all")["signedIdentity"],
        json!({ "type": "remapIdentity", "prefix": "qa.example/in/all", "signedPrefix": "dev.example" })
    );
    // Seven repositories; each under two tags with one name, by digest with three.
    assert_eq!((outcome.accepted, outcome.lost), (7 * (1 + 1 + 3), 0));
    assert!(outcome.left_out.is_empty());
}

#[test]
fn demands_change_where_those_of_the_origin_do() {
    let signers = Signers::new();
    let docker = json!({
        "*.example": signed_by("one"),
        "dev.example/team/app": signed_by("two"),
        "dev.example/team/app/sub": [{ "type": "reject" }],
        "dev.example/pay": [signed_by("one")[0], signed_by("two")[0]],
        "dev.example/pay/api/v2": signed_by("one"),
        "dev.example/team/lib": [{ "type": "insecureAcceptAnything" }],
        "other.example": [{ "type": "insecureAcceptAnything" }],
    });
    let policy = signers.policy("a.json", &docker, "insecureAcceptAnything");
    let line = Line::new(&["dev.example"], &[("dev.example", "prod.example/all")], Some(policy));
    let outcome = compared(&signers, &[("a", line)], &STAGING);
    // `*.example` has no say about dev.example: it is for hosts below.
    assert_eq!(outcome.demands("qa.example/in/all")["type"], "signedBy");
    assert_eq!(
        outcome.scopes(),
        ["", "/pay", "/pay/api/v2", "/team/app", "/team/app/sub", "/team/lib"].map(|s| format!("qa.example/in/all{s}"))
    );
    assert!(outcome.left_out.is_empty() && outcome.accepted > 0);
}

#[test]
fn a_default_that_accepts_is_the_origins_rule_only_where_it_decides() {
    let signers = Signers::new();
    let policy = signers.policy("a.json", &json!({ "dev.example/team": signed_by("one") }), "insecureAcceptAnything");
    let line = Line::new(&["dev.example"], &[("dev.example", "prod.example/all")], Some(policy));
    let outcome = compared(&signers, &[("a", line)], &STAGING);
    assert_eq!(outcome.policy["default"], json!([{ "type": "reject" }]));
    assert_eq!(outcome.demands("qa.example/in/all"), &json!({ "type": "insecureAcceptAnything" }));
    assert_eq!(outcome.demands("qa.example/in/all/team")["type"], "signedBy");
}

#[test]
fn what_a_stream_may_not_bring_is_not_accepted() {
    let signers = Signers::new();
    let policy = signers.policy("a.json", &json!({ "dev.example": signed_by("one") }), "reject");
    let origins = ["dev.example/pay", "dev.example/team/app/sub", "elsewhere.example"];
    let line = Line::new(&origins, &[("dev.example", "prod.example/all")], Some(policy));
    let outcome = compared(&signers, &[("a", line)], &STAGING);
    // The root is where the mapping's images begin, and none of them may be there.
    assert_eq!(outcome.scopes(), ["qa.example/in/all/pay", "qa.example/in/all/team/app/sub"]);
}

#[test]
fn what_goes_elsewhere_leaves_a_hole() {
    let signers = Signers::new();
    let docker = json!({ "dev.example": signed_by("one"), "dev.example/payments": signed_by("two") });
    let policy = || signers.policy("a.json", &docker, "reject");
    let to = [("dev.example", "prod.example/all"), ("dev.example/pay", "prod.example/p")];
    let line = Line::new(&["dev.example"], &to, Some(policy()));
    let outcome = compared(&signers, &[("a", line)], &STAGING);
    let scopes = ["qa.example/in/all", "qa.example/in/all/pay", "qa.example/in/all/payments", "qa.example/in/p"];
    assert_eq!(outcome.scopes(), scopes);
    assert_eq!(outcome.demands("qa.example/in/all/pay")["type"], "reject");

    // To where staging has no place at all.
    let to = [("dev.example", "prod.example/all"), ("dev.example/pay", "another.example/p")];
    let line = Line::new(&["dev.example"], &to, Some(policy()));
    let outcome = compared(&signers, &[("a", line)], &STAGING);
    assert_eq!(outcome.scopes(), scopes[..3]);
    assert_eq!(outcome.left_out, ["stream a: what comes from dev.example/pay has no place in staging"]);
}

#[test]
fn a_more_specific_mapping_of_staging() {
    let signers = Signers::new();
    let docker = json!({ "dev.example": signed_by("one"), "dev.example/pay/api/v2": signed_by("two") });
    let policy = signers.policy("a.json", &docker, "reject");
    let line = Line::new(&["dev.example"], &[("dev.example", "prod.example/all")], Some(policy));
    let staging = [
        ("prod.example", "qa.example/in"),
        ("prod.example/all/pay/api", "slow.example:5000"),
        ("prod.example/all/team", "qa.example/in/all/pay"),
    ];
    let outcome = compared(&signers, &[("a", line)], &staging);
    let docker = &outcome.policy["transports"]["docker"];
    let signed_prefix = |scope: &str| docker[scope][0]["signedIdentity"]["signedPrefix"].clone();
    assert_eq!(signed_prefix("slow.example:5000"), "dev.example/pay/api");
    assert_eq!(signed_prefix("slow.example:5000/v2"), "dev.example/pay/api/v2");
    assert_eq!(docker["qa.example/in/all/team"][0]["type"], "reject");
    // Both dev.example/pay and dev.example/team have images there.
    assert_eq!(docker["qa.example/in/all/pay"][0]["type"], "reject");
    assert_eq!(outcome.left_out.len(), 1, "{:?}", outcome.left_out);
    assert!(
        outcome.left_out[0].contains("dev.example/pay (a) and dev.example/team (a) lie there"),
        "{:?}",
        outcome.left_out
    );
    // Their own signatures could not be told apart from those of the others.
    assert!(outcome.accepted > 0);
}

#[test]
fn several_streams_and_one_without_a_policy() {
    let signers = Signers::new();
    let a = signers.policy("a.json", &json!({ "dev.example": signed_by("one") }), "reject");
    let b = signers.policy("b.json", &json!({ "": signed_by("two") }), "reject");
    let lines = [
        ("a", Line::new(&["dev.example/team"], &[("dev.example/team", "prod.example/a")], Some(a))),
        ("b", Line::new(&["other.example"], &[("other.example", "prod.example/b")], Some(b))),
        ("c", Line::new(&["dev.example/pay"], &[("dev.example/pay", "prod.example/c")], None)),
        // Within the scope of a.
        ("d", Line::new(&["dev.example:5000"], &[("dev.example:5000", "prod.example/d")], None)),
    ];
    let staging = [("prod.example", "qa.example/in"), ("prod.example/d", "qa.example/in/a/pay")];
    let outcome = compared(&signers, &lines, &staging);
    assert_eq!(outcome.scopes(), ["qa.example/in/a", "qa.example/in/a/pay", "qa.example/in/b"]);
    assert_eq!(outcome.demands("qa.example/in/a/pay")["type"], "reject");
    assert_eq!(outcome.left_out.len(), 2, "{:?}", outcome.left_out);
    assert!(outcome.left_out[0].starts_with("qa.example/in/a/pay (stream a, d): images of"));
    assert!(outcome.left_out[1].starts_with("qa.example/in/c (stream c): the stream has no image policy"));
}

#[test]
fn two_origins_in_one_place() {
    let signers = Signers::new();
    let both = |docker: Value| {
        let policy = signers.policy("a.json", &docker, "reject");
        let to = [("dev.example/pay", "prod.example/p"), ("other.example/pay", "prod.example/p")];
        let line = Line::new(&["dev.example", "other.example"], &to, Some(policy));
        compared(&signers, &[("a", line)], &STAGING)
    };
    let outcome = both(json!({ "": signed_by("one") }));
    assert_eq!(outcome.demands("qa.example/in/p")["type"], "reject");
    assert_eq!(
        outcome.left_out,
        [
            "qa.example/in/p (stream a): images of dev.example/pay (a) and other.example/pay (a) lie there, and no policy can say both"
        ]
    );
    // What is the same for both can be said.
    let outcome = both(json!({ "": [{ "type": "insecureAcceptAnything" }] }));
    assert_eq!(outcome.demands("qa.example/in/p")["type"], "insecureAcceptAnything");
    assert!(outcome.left_out.is_empty());
    let exact = json!({ "type": "exactRepository", "dockerRepository": "dev.example/pay/api" });
    let outcome = both(json!({ "": signed_as("one", exact) }));
    assert!(outcome.left_out.is_empty() && outcome.accepted > 0);
}

#[test]
fn single_images() {
    let signers = Signers::new();
    let at = |identity: &str| json!({ "type": identity });
    let pinned = format!("dev.example/pay/api/v2@{DIGEST}");
    let docker = json!({
        "dev.example": signed_by("one"),
        "dev.example/team/app:1": signed_by("two"),
        "dev.example/team/lib:1": signed_as("two", at("matchRepository")),
        "dev.example/team/lib:2": signed_as("one", at("matchExact")),
        "dev.example/pay/api:1": [{ "type": "reject" }],
        "dev.example/pay/api:2": [{ "type": "insecureAcceptAnything" }],
        pinned: signed_by("two"),
        // Never meant, by whichever name: both, and a name that is not written in full.
        format!("dev.example/team/app:2@{DIGEST}"): [{ "type": "insecureAcceptAnything" }],
        "docker.io/busybox:1": [{ "type": "insecureAcceptAnything" }],
    });
    let policy = signers.policy("a.json", &docker, "reject");
    let to = [("dev.example", "prod.example/all"), ("docker.io", "prod.example/hub")];
    let line = Line::new(&["dev.example", "docker.io"], &to, Some(policy));
    let outcome = compared(&signers, &[("a", line)], &STAGING);
    let of = |name: &str| format!("qa.example/in/all/{name}");
    assert_eq!(
        outcome.demands(&of("team/app:1"))["signedIdentity"],
        json!({ "type": "exactReference", "dockerReference": "dev.example/team/app:1" })
    );
    assert_eq!(outcome.demands(&of(&format!("pay/api/v2@{DIGEST}")))["signedIdentity"]["type"], "remapIdentity");
    assert_eq!(outcome.scopes().len(), 8, "{:?}", outcome.scopes());
    assert!(outcome.left_out.is_empty() && outcome.lost == 0);
}

#[test]
fn what_another_name_cannot_be_asked_for_is_refused_and_told() {
    let signers = Signers::new();
    for identity in ["matchExact", "matchRepository"] {
        let docker = json!({
            "dev.example": signed_by("one"),
            "dev.example/team": [signed_by("one")[0], signed_as("one", json!({ "type": identity }))[0]],
            "dev.example/team/app/sub": signed_by("one"),
        });
        let policy = signers.policy("a.json", &docker, "reject");
        let line = Line::new(&["dev.example"], &[("dev.example", "prod.example/all")], Some(policy));
        let outcome = compared(&signers, &[("a", line)], &STAGING);
        assert_eq!(outcome.policy["transports"]["docker"]["qa.example/in/all/team"], json!([{ "type": "reject" }]));
        assert_eq!(outcome.demands("qa.example/in/all/team/app/sub")["type"], "signedBy");
        let [left_out] = outcome.left_out.as_slice() else { panic!("{:?}", outcome.left_out) };
        assert!(
            left_out.starts_with("qa.example/in/all/team (stream a): ") && left_out.contains(identity),
            "{left_out}"
        );
        assert!(outcome.lost > 0, "the origin accepts something");
    }
}

#[test]
fn other_identities_that_can_be_said() {
    let signers = Signers::new();
    let remap =
        |prefix: &str, signed: &str| json!({ "type": "remapIdentity", "prefix": prefix, "signedPrefix": signed });
    for (team, pay) in [
        (remap("dev.example/team", "ci.example"), remap("dev.example", "other.example")),
        (remap("elsewhere.example", "ci.example"), remap("dev.example/pay/api", "ci.example/api")),
        (
            json!({ "type": "exactReference", "dockerReference": "dev.example/team/app:1" }),
            json!({ "type": "exactRepository", "dockerRepository": "other.example/pay/api" }),
        ),
    ] {
        let docker = json!({
            "dev.example/team": signed_as("one", team),
            "dev.example/pay": signed_as("two", pay),
        });
        let policy = signers.policy("a.json", &docker, "reject");
        let line = Line::new(&["dev.example"], &[("dev.example", "prod.example/all")], Some(policy));
        let outcome = compared(&signers, &[("a", line)], &STAGING);
        assert!(outcome.left_out.is_empty() && outcome.accepted > 0, "{:?}", outcome.left_out);
    }
}
