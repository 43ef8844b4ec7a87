//! Detached signatures: what counts, and what each refusal says.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Gpg, certificates, fingerprint, from_now, have, key, request, time, trust};
use manifest_schema::Timestamp;
use signing::{Error, KeyRequest, Reason, Rejected, Trust, join_signatures};

const DOCUMENT: &[u8] = b"{\"type\":\"sealift/test/1\"}\n";

fn document() -> Vec<u8> {
    DOCUMENT.to_vec()
}

/// The only reason of a refusal.
fn reason<T: std::fmt::Debug>(result: Result<T, Rejected>) -> Reason {
    match result {
        Err(Rejected::BelowThreshold { mut faults, .. }) if faults.len() == 1 => faults.remove(0).reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_good_signature_makes_bytes_authentic() {
    let (made, secret) = key(&request("release"));
    let signed_at = from_now(-30);
    let signature = secret.sign_detached_at(DOCUMENT, signed_at).unwrap();
    let authentic = trust(&[&made.certificate_armored], 1).verify_detached(document(), &signature).unwrap();
    assert_eq!(authentic.get(), DOCUMENT);
    let [signer] = authentic.signers() else { panic!("{:?}", authentic.signers()) };
    assert_eq!((&signer.fingerprint, &signer.key), (&made.fingerprint, &made.fingerprint));
    assert_eq!(signer.user_id.as_ref().unwrap().raw(), "release <release@example.org>");
    assert_eq!(signer.signed_at, signed_at);
    let length = authentic.parse(|bytes| Ok::<_, ()>(bytes.len())).unwrap();
    assert_eq!((*length.get(), length.signers().len()), (DOCUMENT.len(), 1));
}

#[test]
fn gpg_signatures_are_read_armored_and_binary() {
    if !have(&["gpg"]) {
        return;
    }
    let gpg = Gpg::new();
    let (a, b) = (gpg.make("a", "rsa3072", "sign"), gpg.make("b", "ed25519", "sign"));
    let path = gpg.write("document", DOCUMENT);
    let ring = gpg.run(&["--export"]);
    for armor in ["--armor", "--no-armor"] {
        gpg.run(&["-u", &a, "-u", &b, armor, "--output", "sig", "--detach-sign", &path]);
        let authentic = trust(&[&ring], 2).verify_detached(document(), &gpg.read("sig")).unwrap();
        let mut signers: Vec<_> = authentic.signers().iter().map(|s| s.fingerprint.clone()).collect();
        let mut expected = vec![fingerprint(&a), fingerprint(&b)];
        signers.sort();
        expected.sort();
        assert_eq!(signers, expected);
    }
    let sign = |args: &[&str]| {
        gpg.run(&[&["-u", &a, "--output", "sig"], args, &[&path]].concat());
        gpg.read("sig")
    };
    let trust = trust(&[&ring], 1);
    let weak = reason(trust.verify_detached(document(), &sign(&["--digest-algo", "SHA1", "--detach-sign"])));
    assert!(matches!(weak, Reason::Weak(_)), "{weak:?}");
    let text = reason(trust.verify_detached(document(), &sign(&["--textmode", "--detach-sign"])));
    assert!(matches!(text, Reason::Type(_)), "{text:?}");
    for inline in [&["--sign"][..], &["--armor", "--sign"], &["--clear-sign"], &["-z", "0", "--sign"]] {
        let rejected = trust.verify_detached(document(), &sign(inline));
        assert!(matches!(rejected, Err(Rejected::Form { .. })), "{inline:?}: {rejected:?}");
    }
}

#[test]
fn bytes_that_were_not_signed_are_refused() {
    let (made, secret) = key(&request("release"));
    let trust = trust(&[&made.certificate_armored], 1);
    let signature = secret.sign_detached_armored(DOCUMENT).unwrap();
    for at in 0..DOCUMENT.len() {
        let mut changed = document();
        changed[at] ^= 1;
        assert!(matches!(reason(trust.verify_detached(changed, &signature)), Reason::Bad(_)));
    }
    let more = [DOCUMENT, b"\n"].concat();
    assert!(matches!(reason(trust.verify_detached(more, &signature)), Reason::Bad(_)));
    let crlf = document().into_iter().flat_map(|b| if b == b'\n' { vec![b'\r', b'\n'] } else { vec![b] }).collect();
    assert!(matches!(reason(trust.verify_detached(crlf, &signature)), Reason::Bad(_)));
    assert_eq!(trust.verify_detached(document(), b"").unwrap_err(), Rejected::NoSignature);
    let certificate = trust.verify_detached(document(), &made.certificate_armored);
    assert!(matches!(certificate, Err(Rejected::Form { .. })));
    let cut = &signature[..signature.len() / 2];
    assert!(matches!(trust.verify_detached(document(), cut), Err(Rejected::Unreadable(_))));
}

#[test]
fn an_unknown_key_is_named() {
    let (made, _) = key(&request("release"));
    let (stranger, secret) = key(&request("stranger"));
    let signature = secret.sign_detached_armored(DOCUMENT).unwrap();
    let rejected = trust(&[&made.certificate_armored], 1).verify_detached(document(), &signature).unwrap_err();
    let text = rejected.to_string();
    assert!(text.starts_with("0 of 1 required signatures: key "), "{text}");
    assert!(text.contains(stranger.fingerprint.as_str()) && text.contains("unknown key"), "{text}");
}

#[test]
fn an_expired_key_is_refused_whatever_the_date_of_its_signature() {
    let (created, expires) = (time("2024-01-01T00:00:00Z"), time("2024-12-31T00:00:00Z"));
    let (made, secret) = key(&KeyRequest { created, expires: Some(expires), ..request("old") });
    // Made while the key was alive, or dated back today: nobody can tell.
    let signature = secret.sign_detached_at(DOCUMENT, time("2024-06-01T00:00:00Z")).unwrap();
    let at = |now| Trust::new(certificates(&[&made.certificate_armored]), 1, now).unwrap();
    let _ = at(time("2024-06-02T00:00:00Z")).verify_detached(document(), &signature).unwrap();
    for now in [expires, Timestamp::now()] {
        assert_eq!(
            reason(at(now).verify_detached(document(), &signature)),
            Reason::Expired { on: Some(expires) },
            "{now}"
        );
    }
    let late = secret.sign_detached_armored(DOCUMENT).unwrap();
    assert_eq!(reason(at(Timestamp::now()).verify_detached(document(), &late)), Reason::Expired { on: Some(expires) });
}

#[test]
fn a_revoked_key_is_refused_with_reason_and_date() {
    let (made, secret) = key(&request("release"));
    let signature = secret.sign_detached_armored(DOCUMENT).unwrap();
    // In a file of its own, or behind the certificate in one file.
    let one_file = [made.certificate_armored.as_slice(), &made.revocation_armored].concat();
    for files in [&[made.certificate_armored.as_slice(), &made.revocation_armored][..], &[one_file.as_slice()]] {
        let reason = reason(trust(files, 1).verify_detached(document(), &signature));
        assert!(matches!(reason, Reason::Revoked { on: Some(_), .. }), "{reason:?}");
        assert!(reason.to_string().starts_with("the key was revoked on 2"), "{reason}");
    }
}

#[test]
fn a_key_revoked_by_gpg_is_refused_for_signatures_from_before() {
    if !have(&["gpg"]) {
        return;
    }
    let gpg = Gpg::new();
    let key = gpg.make("retired", "rsa3072", "sign");
    let path = gpg.write("document", DOCUMENT);
    gpg.run(&["--output", "sig", "--detach-sign", &path]);
    let mut edit = gpg.command("gpg");
    edit.args(["--no-tty", "--pinentry-mode", "loopback", "--passphrase", "", "--command-fd", "0"]);
    edit.args(["--output", "retire.asc", "--gen-revoke", &key]);
    let mut child = edit.stdin(std::process::Stdio::piped()).stderr(std::process::Stdio::null()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"y\n3\nno longer used\n\ny\n").unwrap();
    assert!(child.wait().unwrap().success());
    let trust = trust(&[&gpg.run(&["--export"]), &gpg.read("retire.asc")], 1);
    let reason = reason(trust.verify_detached(document(), &gpg.read("sig")));
    let Reason::Revoked { reason, .. } = reason else { panic!("{reason:?}") };
    assert!(reason.raw().contains("no longer used"), "{reason:?}");
}

#[test]
fn signatures_from_the_future_are_refused_beyond_the_tolerance() {
    let (made, secret) = key(&request("release"));
    let trust = trust(&[&made.certificate_armored], 1);
    let near = secret.sign_detached_at(DOCUMENT, from_now(3000)).unwrap();
    let _ = trust.verify_detached(document(), &near).unwrap();
    let far = secret.sign_detached_at(DOCUMENT, from_now(4000)).unwrap();
    assert!(matches!(reason(trust.verify_detached(document(), &far)), Reason::Future { tolerance: 3600, .. }));
    let strict = trust.with_clock_tolerance(0);
    assert!(matches!(reason(strict.verify_detached(document(), &near)), Reason::Future { tolerance: 0, .. }));
}

#[test]
fn a_key_from_a_clock_slightly_ahead_is_taken() {
    let (made, secret) = key(&KeyRequest { created: from_now(600), ..request("ahead") });
    let signature = secret.sign_detached_at(DOCUMENT, from_now(700)).unwrap();
    let trust = trust(&[&made.certificate_armored], 1);
    let _ = trust.verify_detached(document(), &signature).unwrap();
    assert!(trust.with_clock_tolerance(60).verify_detached(document(), &signature).is_err());
}

#[test]
fn a_threshold_counts_certificates_not_signatures() {
    let ((a, secret_a), (b, secret_b)) = (key(&request("a")), key(&request("b")));
    let (c, _) = key(&request("c"));
    let trust = trust(&[&a.certificate_armored, &b.certificate_armored, &c.certificate_armored], 2);
    let by_a = secret_a.sign_detached_armored(DOCUMENT).unwrap();
    let again = secret_a.sign_detached_at(DOCUMENT, from_now(-20)).unwrap();
    let by_b = secret_b.sign_detached_armored(DOCUMENT).unwrap();

    let alone = trust.verify_detached(document(), &by_a).unwrap_err();
    assert_eq!(alone.to_string(), "1 of 2 required signatures: no other signature was found");
    let twice = trust.verify_detached(document(), &[by_a.as_slice(), &again].concat());
    assert_eq!(reason(twice), Reason::Duplicate(a.fingerprint.clone()));
    for both in [[by_a.as_slice(), &by_b].concat(), join_signatures(&[&by_a, &by_b]).unwrap()] {
        assert_eq!(trust.verify_detached(document(), &both).unwrap().signers().len(), 2);
    }
    let bad = secret_b.sign_detached_armored(b"something else").unwrap();
    let rejected = trust.verify_detached(document(), &[by_a.as_slice(), &bad].concat());
    assert!(matches!(reason(rejected), Reason::Bad(_)));

    let impossible = Trust::new(certificates(&[&a.certificate_armored]), 2, Timestamp::now());
    assert!(matches!(impossible, Err(Error::Threshold { threshold: 2, certificates: 1 })));
    let nobody = Trust::new(certificates(&[&a.certificate_armored]), 0, Timestamp::now());
    assert!(matches!(nobody, Err(Error::Threshold { threshold: 0, .. })));
}

#[test]
fn many_signatures_are_not_all_looked_at() {
    let (made, secret) = key(&request("a"));
    let signature = secret.sign_detached_armored(DOCUMENT).unwrap();
    let trust = trust(&[&made.certificate_armored], 1);
    let _ = trust.verify_detached(document(), &signature.repeat(64)).unwrap();
    assert!(trust.verify_detached(document(), &signature.repeat(65)).is_err());
}
