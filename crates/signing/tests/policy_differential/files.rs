//! Is the file a policy?

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use manifest_schema::Timestamp;
use signing::payload;
use testkit::tools::need;

use crate::common::{from_now, key, request, sign_message};
use crate::keys::NAME;
use crate::world::{ACCEPT, World};
use crate::{Verdicts, each};

/// Files that are policies, and files that are none.
#[test]
fn policies_are_read_as_skopeo_does() {
    if !need(&["gpg", "skopeo", "docker-registry"]) {
        return;
    }
    let world = World::new();
    let signer = key(&request("signer")).0;
    let signature =
        sign_message(&signer, &payload(NAME, &world.image.digest(), "test", Timestamp::now()), from_now(-1));
    let key_path = world.home.path().join("key.asc");
    std::fs::write(&key_path, &signer.certificate_armored).unwrap();
    let (path, data) = (key_path.display().to_string(), STANDARD.encode(&signer.certificate_armored));
    let accept = format!(r#"[{{"type":"{ACCEPT}"}}]"#);
    let exact = format!(r#""signedIdentity":{{"type":"exactReference","dockerReference":"{NAME}"}}"#);
    let signed =
        |members: &str| format!(r#"{{"default":[{{"type":"signedBy","keyType":"GPGKeys",{members},{exact}}}]}}"#);
    let identity = |identity: &str| {
        let key =
            format!(r#"{{"type":"signedBy","keyType":"GPGKeys","keyPath":"{path}","signedIdentity":{identity}}}"#);
        // Whether it is read is the question, not whether it matches.
        format!(r#"{{"default":{accept},"transports":{{"docker":{{"x.example":[{key}]}}}}}}"#)
    };
    let aside = |requirement: &str| {
        format!(r#"{{"default":{accept},"transports":{{"docker":{{"x.example":[{requirement}]}}}}}}"#)
    };
    let whole = |rest: &str| format!(r#"{{"default":{accept}{rest}}}"#);
    let repeated = data.as_bytes().chunks(60).map(|c| std::str::from_utf8(c).unwrap()).collect::<Vec<_>>().join("\\n");
    let texts = [
        whole(""),
        format!("\n\t {} \r\n", whole("")),
        whole(r#","transports":{}"#),
        whole(r#","transports":{"docker":{}}"#),
        whole(r#","transports":{"of-the-future":{"x y":[{"type":"reject"}]}}"#),
        whole(r#","transports":{"docker":{"":[{"type":"reject"}],"A B":[{"type":"reject"}]}}"#),
        whole(r#","transports":{"docker-daemon":{"":[{"type":"reject"}]}}"#),
        whole(r#","transports":{"docker-daemon":{"x":[{"type":"reject"}]}}"#),
        whole(r#","transports":{"docker-archive":{"x":[{"type":"reject"}]}}"#),
        whole(r#","transports":{"oci-archive":{"x":[{"type":"reject"}]}}"#),
        whole(r#","transports":{"oci-archive":{"/x":[{"type":"reject"}]}}"#),
        whole(r#","transports":{"sif":{"x":[{"type":"reject"}]}}"#),
        whole(r#","transports":{"tarball":{"x":[{"type":"reject"}]}}"#),
        whole(r#","transports":{"dir":{"/":[{"type":"reject"}]}}"#),
        whole(r#","transports":{"dir":{"/x/":[{"type":"reject"}]}}"#),
        whole(r#","transports":{"oci":{"x":[{"type":"reject"}]}}"#),
        whole(r#","transports":{"docker":{"x":[]}}"#),
        whole(r#","transports":{"docker":{"x":{}}}"#),
        whole(r#","transports":{"docker":{"x":null}}"#),
        whole(r#","transports":{"docker":null}"#),
        whole(r#","transports":{"docker":[]}"#),
        whole(r#","transports":null"#),
        whole(r#","transports":[]"#),
        whole(r#","transports":{"docker":{},"docker":{}}"#),
        whole(r#","transports":{"docker":{"x":[{"type":"reject"}],"x":[{"type":"reject"}]}}"#),
        whole(r#","transport":{}"#),
        whole(r#","Transports":{}"#),
        whole(r#","default":[{"type":"reject"}]"#),
        whole(r#","comment":"""#),
        "{}".into(),
        String::new(),
        "null".into(),
        "[]".into(),
        r#"{"transports":{}}"#.into(),
        r#"{"default":[]}"#.into(),
        r#"{"default":null}"#.into(),
        r#"{"default":{}}"#.into(),
        r#"{"default":[null]}"#.into(),
        r#"{"default":[{}]}"#.into(),
        r#"{"default":["insecureAcceptAnything"]}"#.into(),
        format!("{}{}", whole(""), whole("")),
        format!("{}x", whole("")),
        format!("{},", whole("")),
        format!("{{\"default\":{accept},}}"),
        format!("// comment\n{}", whole("")),
        format!("\u{feff}{}", whole("")),
        r#"{"default":[{"type":"insecureAcceptAnything","type":"insecureAcceptAnything"}]}"#.into(),
        r#"{"default":[{"type":"insecureAcceptAnything","x":1}]}"#.into(),
        r#"{"default":[{"type":"insecureAcceptAnything"},{"type":"x"}]}"#.into(),
        r#"{"default":[{"Type":"insecureAcceptAnything"}]}"#.into(),
        r#"{"default":[{"type":"InsecureAcceptAnything"}]}"#.into(),
        r#"{"default":[{"type":"insecureAcceptAnythin\u0067"}]}"#.into(),
        r#"{"d\u0065fault":[{"type":"insecureAcceptAnything"}]}"#.into(),
        r#"{"default":[{"type":["insecureAcceptAnything"]}]}"#.into(),
        signed(&format!(r#""keyPath":"{path}""#)),
        signed(&format!(r#""keyPaths":["{path}"]"#)),
        signed(&format!(r#""keyPaths":["{path}","{path}"]"#)),
        signed(&format!(r#""keyData":"{data}""#)),
        signed(&format!(r#""keyData":"{repeated}""#)),
        signed(&format!(r#""keyData":"{}""#, data.trim_end_matches('='))),
        signed(&format!(r#""keyData":"{}""#, STANDARD.encode(b"no key"))),
        signed(r#""keyData":"""#),
        signed(r#""keyData":null"#),
        signed(r#""keyData":"%""#),
        signed(r#""keyData":["eA=="]"#),
        signed(r#""keyPaths":[]"#),
        signed(r#""keyPaths":null"#),
        signed(r#""keyPaths":[1]"#),
        signed(r#""keyPath":"""#),
        signed(r#""keyPath":null"#),
        signed(r#""keyPath":1"#),
        signed(r#""keyPath":"/not/there""#),
        signed(&format!(r#""keyPaths":["{path}","/not/there"]"#)),
        signed(&format!(r#""keyPath":"{path}","keyPaths":["{path}"]"#)),
        signed(&format!(r#""keyPath":"{path}","keyData":"{data}""#)),
        signed(&format!(r#""keyPath":"{path}","keyPath":"{path}""#)),
        signed(&format!(r#""keyPath":"{path}","x":1"#)),
        signed(&format!(r#""keyPath":"{path}","signedIdentity":{{"type":"matchExact"}}"#)),
        signed(r#""x":1"#),
        aside(&format!(r#"{{"type":"signedBy","keyPath":"{path}"}}"#)),
        aside(&format!(r#"{{"type":"signedBy","keyType":"X509Certificates","keyPath":"{path}"}}"#)),
        aside(&format!(r#"{{"type":"signedBy","keyType":"gpgkeys","keyPath":"{path}"}}"#)),
        aside(&format!(r#"{{"type":"signedBy","keyType":null,"keyPath":"{path}"}}"#)),
        aside(r#"{"type":"signedBy","keyType":"GPGKeys","keyPath":"/not/there"}"#),
        aside(r#"{"type":"signedBaseLayer"}"#),
        aside(r#"{"type":"signedBaseLayer","baseLayerIdentity":null}"#),
        aside(r#"{"type":"signedBaseLayer","baseLayerIdentity":{"type":"matchExact"}}"#),
        aside(r#"{"type":"signedBaseLayer","baseLayerIdentity":{"type":"matchExact"},"x":1}"#),
        aside(r#"{"type":"sigstoreSigned"}"#),
        aside(r#"{"type":"sigstoreSigned","keyPath":"","keyData":"eA=="}"#),
        identity("null"),
        identity("{}"),
        identity("[]"),
        identity(r#"{"type":"x"}"#),
        identity(r#"{"type":"matchExact"}"#),
        identity(r#"{"type":"matchRepoDigestOrExact"}"#),
        identity(r#"{"type":"matchRepository"}"#),
        identity(r#"{"type":"matchExact","dockerReference":"a:1"}"#),
        identity(r#"{"type":"matchExact","type":"matchExact"}"#),
        identity(r#"{"type":"exactReference"}"#),
        identity(r#"{"type":"exactReference","dockerReference":null}"#),
        identity(r#"{"type":"exactReference","dockerReference":""}"#),
        identity(r#"{"type":"exactReference","dockerReference":"busybox"}"#),
        identity(r#"{"type":"exactReference","dockerReference":"busybox:1"}"#),
        identity(r#"{"type":"exactReference","dockerReference":"BUSYBOX:1"}"#),
        identity(r#"{"type":"exactReference","dockerReference":"x.example/a:1","dockerRepository":"x"}"#),
        identity(r#"{"type":"exactRepository","dockerRepository":"busybox"}"#),
        identity(r#"{"type":"exactRepository","dockerRepository":"busybox:1"}"#),
        identity(r#"{"type":"exactRepository","dockerRepository":"x.example/"}"#),
        identity(r#"{"type":"exactRepository","dockerReference":"busybox:1"}"#),
        identity(r#"{"type":"remapIdentity"}"#),
        identity(r#"{"type":"remapIdentity","prefix":"a"}"#),
    ];
    let mut texts: Vec<String> = texts.into();
    for name in [
        "a",
        "a.example",
        "a.example:5000",
        "a.example:",
        "a.example:x",
        ":5000",
        "A.example",
        "a.example/b",
        "a.example/B",
        "a.example/b/",
        "a.example//b",
        "/b",
        "a_b",
        "a_b/c",
        "a.example/b:1",
        "a.example:5000/b__c/d-e",
        "a.example/b___c",
        "*.example",
        "",
        " ",
        "-a",
        "a-",
        "a..b",
        "a.example/-b",
        "localhost",
        "ns/short",
        "a.example/b@sha256",
    ] {
        texts.push(identity(&format!(r#"{{"type":"remapIdentity","prefix":"{name}","signedPrefix":"b.example"}}"#)));
    }
    texts.push(identity(r#"{"type":"remapIdentity","prefix":"a","signedPrefix":"b/"}"#));
    texts.push(identity(r#"{"type":"remapIdentity","prefix":"a","signedPrefix":"b","x":1}"#));
    let verdicts = Verdicts::new("policies");
    each(&texts, |text| {
        let case = text.replace(&data, "KEY").replace(&path, "PATH");
        world.compare_folder(&verdicts, &case, text, &[&signature]);
    });
    verdicts.end(120);
}
