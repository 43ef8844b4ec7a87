//! Signed statements: taken apart by stock tools, and refused after any change that matters.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Gpg, from_now, have, key, request, trust};
use manifest_schema::Timestamp;
use signing::{Error, Reason, Rejected, join_signatures, join_statements, split_statement};

const DOCUMENT: &[u8] = br#"{"type":"sealift/test/1","text":"line\nend","n":[1,2]}"#;
const LIMIT: u64 = 1000;

#[test]
fn a_document_and_its_signature_are_one_file() {
    let (made, secret) = key(&request("ledger"));
    let signed_at = from_now(-5);
    let file = secret.sign_statement(DOCUMENT, signed_at).unwrap();
    let (line, signature) = split_statement(&file).unwrap();
    assert_eq!((line.strip_suffix(b"\n"), [line, signature].concat()), (Some(DOCUMENT), file.clone()));
    let trust = trust(&[&made.certificate_armored], 1);
    let authentic = trust.verify_statement(&file, LIMIT).unwrap();
    assert_eq!((authentic.get().as_slice(), authentic.signers()[0].signed_at), (DOCUMENT, signed_at));
    let _ = trust.verify_detached(line.to_vec(), signature).unwrap();
    let size = DOCUMENT.len() as u64;
    let _ = trust.verify_statement(&file, size).unwrap();
    let long = trust.verify_statement(&file, size - 1).unwrap_err();
    assert_eq!(long.to_string(), format!("the document has {size} bytes; at most {} are accepted", size - 1));
}

#[test]
fn stock_tools_take_it_apart_and_make_it() {
    if !have(&["gpg", "sh"]) {
        return;
    }
    let gpg = Gpg::new();
    let ((made, secret), (other, second)) = (key(&request("ledger")), key(&request("second")));
    gpg.import(&made.certificate_armored);
    gpg.import(&other.certificate_armored);
    let one = secret.sign_statement(DOCUMENT, Timestamp::now()).unwrap();
    let two = join_statements(&[&one, &second.sign_statement(DOCUMENT, Timestamp::now()).unwrap()]).unwrap();
    for (file, signers) in [(&one, 1), (&two, 2)] {
        gpg.write("FILE", file);
        let script =
            "head -n 1 FILE > document; tail -n +2 FILE > signature; gpg --status-fd 1 --verify signature document";
        let output = gpg.command("sh").args(["-c", script]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let good = String::from_utf8_lossy(&output.stdout).matches("[GNUPG:] VALIDSIG").count();
        assert_eq!(good, signers);
    }
    // And the other way.
    let theirs = gpg.make("theirs", "rsa3072", "sign");
    let script = "gpg --batch --pinentry-mode loopback --passphrase '' --local-user theirs --comment 'a comment' \
                  --armor --output made --detach-sign document && cat document made";
    let output = gpg.command("sh").args(["-c", script]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let trust = trust(&[&gpg.run(&["--export", &theirs])], 1);
    assert_eq!(trust.verify_statement(&output.stdout, LIMIT).unwrap().get(), DOCUMENT);
}

#[test]
fn several_keys_sign_one_document() {
    let ((a, secret_a), (b, secret_b)) = (key(&request("a")), key(&request("b")));
    let now = Timestamp::now();
    let (by_a, by_b) =
        (secret_a.sign_statement(DOCUMENT, now).unwrap(), secret_b.sign_statement(DOCUMENT, now).unwrap());
    let trust = trust(&[&a.certificate_armored, &b.certificate_armored], 2);
    let both = join_statements(&[&by_a, &by_b]).unwrap();
    assert_eq!(trust.verify_statement(&both, LIMIT).unwrap().signers().len(), 2);
    let (line, first) = split_statement(&by_a).unwrap();
    let (_, second) = split_statement(&by_b).unwrap();
    let joined = [line, &join_signatures(&[first, second]).unwrap()].concat();
    assert_eq!(trust.verify_statement(&joined, LIMIT).unwrap().get(), DOCUMENT);
    assert!(matches!(trust.verify_statement(&by_a, LIMIT), Err(Rejected::BelowThreshold { found: 1, .. })));
    // Two blocks are not one.
    let blocks = [line, first, second].concat();
    assert!(matches!(trust.verify_statement(&blocks, LIMIT), Err(Rejected::Form { .. })));

    let other = secret_b.sign_statement(br#"{"type":"sealift/test/1"}"#, now).unwrap();
    let error = join_statements(&[&by_a, &other]).unwrap_err();
    assert_eq!(error.to_string(), "expected statements of the same document, found another document");
    assert_eq!(join_statements(&[]), Err(Rejected::NoSignature));
    assert!(join_statements(&[&by_a, b"{}"]).is_err());
}

#[test]
fn only_our_own_documents_of_one_line_are_signed() {
    let (_, secret) = key(&request("ledger"));
    for document in [
        &b""[..],
        b"{}",
        br#"{"type":"atomic container signature"}"#,
        br#"{"type": "sealift/test/1"}"#,
        br#" {"type":"sealift/test/1"}"#,
        br#"{"critical":{},"type":"sealift/test/1"}"#,
        b"{\"type\":\"sealift/test/1\"}\n",
        b"{\"type\":\"sealift/test/1\"}\r",
        b"{\"type\":\"sealift/test/1\",\n\"a\":1}",
    ] {
        let error = secret.sign_statement(document, Timestamp::now()).unwrap_err();
        assert!(matches!(error, Error::Statement { .. }), "{error}");
    }
}

#[test]
fn what_was_signed_in_another_way_is_no_statement() {
    let (made, secret) = key(&request("ledger"));
    let trust = trust(&[&made.certificate_armored], 1);
    let signed =
        |line: &[u8], document: &[u8]| [line, &secret.sign_detached_at(document, Timestamp::now()).unwrap()].concat();
    let line = [DOCUMENT, b"\n"].concat();
    let _ = trust.verify_statement(&signed(&line, &line), LIMIT).unwrap();
    let without_end = trust.verify_statement(&signed(&line, DOCUMENT), LIMIT).unwrap_err();
    let Rejected::BelowThreshold { faults, .. } = without_end else { panic!("{without_end}") };
    assert!(matches!(faults[0].reason, Reason::Bad(_)));
    // A good signature over something that is no document of ours.
    let other = b"{\"type\":\"other/test/1\"}\n";
    assert!(matches!(trust.verify_statement(&signed(other, other), LIMIT), Err(Rejected::Form { .. })));
}

#[test]
fn nothing_stands_beside_document_and_signature() {
    let (made, secret) = key(&request("ledger"));
    let trust = trust(&[&made.certificate_armored], 1);
    let file = String::from_utf8(secret.sign_statement(DOCUMENT, Timestamp::now()).unwrap()).unwrap();
    let (line, signature) = file.split_at(DOCUMENT.len() + 1);
    let end = "-----END PGP SIGNATURE-----\n";
    let begin = "-----BEGIN PGP SIGNATURE-----\n";
    let binary = {
        let mut bytes = Vec::new();
        let mut reader = sequoia_openpgp::armor::Reader::from_bytes(signature.as_bytes(), None);
        std::io::Read::read_to_end(&mut reader, &mut bytes).unwrap();
        bytes
    };
    let certificate = String::from_utf8(made.certificate_armored.clone()).unwrap();
    for changed in [
        String::new(),
        line.into(),
        line.trim_end().into(),
        signature.into(),
        format!("\n{file}"),
        format!(" {file}"),
        format!("{line}\n{signature}"),
        format!("{line} {signature}"),
        format!("{line}{line}{signature}"),
        format!("{file}\n"),
        format!("{file} "),
        format!("{file}\0"),
        format!("{file}{signature}"),
        format!("{file}{end}"),
        format!("{file}not signed\n{end}"),
        format!("{file}{file}"),
        format!("{file}{certificate}"),
        format!("{line}{certificate}"),
        file.trim_end().into(),
        file.replace('\n', "\r\n"),
        file.replacen('\n', "\r\n", 1),
        file.replace(end, "-----END PGP SIGNATURE-----\r\n"),
        file.replace(end, "-----END PGP SIGNATURE----- \n"),
        file.replace(begin, "-----BEGIN PGP SIGNATURE----- \n"),
        file.replace(begin, "-----BEGIN PGP SIGNATURE-----\nComment: \u{1b}[2J\n"),
        file.replace("SIGNATURE-----", "MESSAGE-----"),
        file.replace(begin, "-----BEGIN PGP SIGNED MESSAGE-----\n\nx\n-----BEGIN PGP SIGNATURE-----\n"),
    ] {
        assert_ne!(changed, file);
        assert!(trust.verify_statement(changed.as_bytes(), LIMIT).is_err(), "{changed}");
        assert!(split_statement(changed.as_bytes()).is_err(), "{changed}");
    }
    for tail in [&binary[..], &[signature.as_bytes(), &[0xff]].concat()] {
        assert!(split_statement(&[line.as_bytes(), tail].concat()).is_err());
    }
    let padded = file.replace(begin, &format!("{begin}Comment: {}\n", "x".repeat(1 << 20)));
    assert!(matches!(trust.verify_statement(padded.as_bytes(), LIMIT), Err(Rejected::TooLarge { .. })));
    let commented = file.replace(begin, &format!("{begin}Comment: harmless\n"));
    assert_eq!(trust.verify_statement(commented.as_bytes(), LIMIT).unwrap().get(), DOCUMENT);
}

/// Every byte changed, left out, doubled: what is accepted all the same says the same.
#[test]
fn any_change_is_refused_or_gives_the_same_document() {
    let (made, secret) = key(&request("ledger"));
    let trust = trust(&[&made.certificate_armored], 1);
    let file = secret.sign_statement(DOCUMENT, Timestamp::now()).unwrap();
    let (mut refused, mut same) = (0, 0);
    let mut judge = |changed: &[u8], at: usize| match trust.verify_statement(changed, LIMIT) {
        Err(_) => refused += 1,
        Ok(authentic) => {
            assert_eq!(authentic.get(), DOCUMENT, "{}", String::from_utf8_lossy(changed));
            assert!(at > DOCUMENT.len(), "the document was changed at {at}");
            same += 1;
        }
    };
    for at in 0..file.len() {
        let mut changed = file.clone();
        let bits = (0..8).map(|bit| file[at] ^ 1 << bit);
        for byte in bits.chain(*b"\n\r\0 =-A\xff").filter(|byte| *byte != file[at]) {
            changed[at] = byte;
            judge(&changed, at);
        }
        let (before, after) = file.split_at(at);
        judge(&[before, &after[1..]].concat(), at);
        judge(&[before, b"\n", after].concat(), at);
        if file[at] != b'\n' {
            judge(&[before, &after[..1], after].concat(), at);
        }
        judge(before, at);
    }
    assert!(refused > 20 * same, "{refused} refused, {same} the same");
}
