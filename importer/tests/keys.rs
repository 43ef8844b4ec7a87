//! Keys as people hold them: made by gpg and age-keygen, protected by passphrases.

#![allow(clippy::unwrap_used)]

use std::fs;

use testkit::{Gpg, Site, command, need, run, run_ok};

/// Takes other keys for a site: files in the two folders, named in the configurations.
fn use_release_key(site: &mut Site, secret: &[u8], certificate: &[u8]) {
    fs::write(site.export_dir().join("own.secret.asc"), secret).unwrap();
    fs::write(site.import_dir().join("trust/own.asc"), certificate).unwrap();
    site.release["sign"]["key"] = "own.secret.asc".into();
    site.import["streams"]["payments"]["release"]["certificates"] = serde_json::json!(["trust/own.asc"]);
}

#[test]
fn keys_made_by_gpg_and_age_keygen_work_just_as_well() {
    if !need(&[Site::NEEDS, &["gpg", "age-keygen", "skopeo"]].concat()) {
        return;
    }
    let mut site = Site::new();
    let (release, production) = (Gpg::new(), Gpg::new());
    let release_key = release.generate("release <release@example.com>", "rsa3072");
    let production_key = production.generate("production <production@example.com>", "rsa3072");
    use_release_key(&mut site, &release.export_secret(&release_key), &release.export(&release_key));
    fs::write(site.import_dir().join("gpg.secret.asc"), production.export_secret(&production_key)).unwrap();
    site.import["production"]["sign"]["key"] = "gpg.secret.asc".into();

    let scratch = site.scratch("age");
    let identity = site.import_dir().join("age.key");
    run_ok(command("age-keygen", &scratch).arg("-o").arg(&identity));
    let recipient = run_ok(command("age-keygen", &scratch).arg("-y").arg(&identity)).stdout;
    site.release["recipients"] = serde_json::json!([recipient.trim()]);
    site.import["identity"] = "age.key".into();

    let bundle = site.packed(42);
    site.receive(&bundle, &[]).expect_code(0);
    let (repository, tag) = site
        .production
        .tags()
        .keys()
        .next()
        .unwrap()
        .rsplit_once(':')
        .map(|(r, t)| (r.to_string(), t.to_string()))
        .unwrap();
    fs::write(&site.production_key.certificate_file, production.export(&production_key)).unwrap();
    site.skopeo_verifies(&repository, &tag).expect_code(0);
}

#[test]
fn passphrases_come_from_a_file_or_the_environment() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let new = [("SEALIFT_NEW_PASSPHRASE", "correct horse")];
    run_ok(site.export(&["keygen", "--algorithm", "p256", "--output", "keys"]).envs(new));
    for role in ["production", "identity"] {
        run_ok(site.import(&["keygen", role, "--algorithm", "p256", "--output", "keys"]).envs(new));
    }
    let keys = site.import_dir().join("keys");
    for file in [keys.join("production.secret.asc"), keys.join("enclave.key")] {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
    }
    let made = site.export_dir().join("keys");
    let secret = fs::read(made.join("release.secret.asc")).unwrap();
    use_release_key(&mut site, &secret, &fs::read(made.join("release.asc")).unwrap());
    let recipient = fs::read_to_string(keys.join("enclave.recipient")).unwrap();
    site.release["recipients"] = serde_json::json!([recipient.trim()]);
    site.import["identity"] = "keys/enclave.key".into();
    site.import["production"]["sign"]["key"] = "keys/production.secret.asc".into();

    // No terminal, no file, no variable; a wrong one.
    site.pack(42, &[]).expect_code(2).expect_stderr("a passphrase for").expect_stderr("SEALIFT_SIGN_PASSPHRASE_FILE");
    fs::create_dir(site.export_dir().join("out")).unwrap();
    let pack = ["pack", "--sequence", "42", "--output", "out"];
    run(site.export(&pack).env("SEALIFT_SIGN_PASSPHRASE", "wrong")).expect_code(2).expect_stderr("wrong passphrase");
    run(site.export(&pack).env("SEALIFT_SIGN_PASSPHRASE", "correct horse")).expect_code(0);
    let bundle = site.export_dir().join("out/payments-42");

    // Which one, if there are several.
    site.receive(&bundle, &[]).expect_code(2).expect_stderr("SEALIFT_IDENTITY_PASSPHRASE_FILE");
    let ran = run(site.import(&["receive"]).arg(&bundle).env("SEALIFT_IDENTITY_PASSPHRASE", "correct horse"));
    ran.expect_code(2).expect_stderr("SEALIFT_SIGN_PASSPHRASE_FILE");
    fs::write(site.import_dir().join("passphrase"), "correct horse\n").unwrap();
    site.import["production"]["sign"]["passphrase_file"] = "passphrase".into();
    let ran = run(site.import(&["receive"]).arg(&bundle).env("SEALIFT_IDENTITY_PASSPHRASE", "wrong"));
    ran.expect_code(2).expect_stderr("wrong passphrase");
    assert!(site.production.tags().is_empty());
    run(site.import(&["receive"]).arg(&bundle).env("SEALIFT_IDENTITY_PASSPHRASE", "correct horse")).expect_code(0);
    assert_eq!(site.production.tags().len(), 1);
}

#[test]
fn an_expired_or_revoked_release_key_is_refused_with_its_date_and_the_way_out() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let bundle = site.packed(42);
    let folder = site.scratch("keys");
    let (created, end) = ("2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z");
    let old = testkit::Key::with(&folder, "old", created, Some(end));
    let backdated = |bytes: &[u8]| old.secret.sign_detached_at(bytes, "2024-06-01T00:00:00Z".parse().unwrap()).unwrap();
    let late = site.copy(&bundle, "late");
    testkit::hostile::reseal(&late, &backdated);
    site.import["streams"]["payments"]["release"]["certificates"] = serde_json::json!(["trust"]);
    fs::copy(&old.certificate_file, site.import_dir().join("trust/old.asc")).unwrap();
    let refused = site.receive(&late, &[]).expect_code(3);
    refused.expect_stderr(&format!("the key expired on {end}")).expect_stderr("hint: have the release signed anew");

    fs::copy(&site.release_key.revocation_file, site.import_dir().join("trust/revoked.rev")).unwrap();
    let refused = site.receive(&bundle, &[]).expect_code(3).expect_stderr("the key was revoked on 20");
    refused.expect_stderr("hint: signatures of a revoked key never count again");
    let check = ["check", "--trust", "trust"];
    run(site.import(&check).arg(&bundle)).expect_code(3).expect_stderr("the key was revoked on 20");

    fs::remove_file(site.import_dir().join("trust/revoked.rev")).unwrap();
    run(site.import(&check).arg(&bundle)).expect_code(0);
    site.receive(&bundle, &[]).expect_code(0);
    for file in fs::read_dir(site.import_dir().join("trust")).unwrap() {
        fs::remove_file(file.unwrap().path()).unwrap();
    }
    site.receive(&bundle, &[]).expect_code(2).expect_stderr("no file in this folder");
}

#[test]
fn ssh_keys_open_bundles() {
    if !need(&[Site::NEEDS, &["ssh-keygen", "age", "zstd"]].concat()) {
        return;
    }
    let mut site = Site::new();
    let key = site.import_dir().join("id_ed25519");
    let keygen = ["-q", "-t", "ed25519", "-N", "correct horse", "-C", "ops@prod", "-f"];
    run_ok(command("ssh-keygen", &site.scratch("ssh")).args(keygen).arg(&key));
    // A line of the file as it is; and an RSA key, which says why not.
    fs::copy(key.with_extension("pub"), site.export_dir().join("recipients")).unwrap();
    site.release["recipients"] = serde_json::json!([]);
    site.release["recipients_files"] = serde_json::json!(["recipients"]);
    site.pack(41, &["--recipient", "ssh-rsa AAAAB3Nza"]).expect_code(2).expect_stderr("RUSTSEC-2023-0071");
    let bundle = site.packed(42);
    site.import["identity"] = "id_ed25519".into();
    let receive = |secret: &str| run(site.import(&["receive"]).arg(&bundle).env("SEALIFT_IDENTITY_PASSPHRASE", secret));
    receive("wrong").expect_code(2).expect_stderr("wrong passphrase");
    receive("correct horse").expect_code(0);
    // Stock age opens it with the same key.
    run_ok(
        command("ssh-keygen", &site.scratch("ssh")).args(["-q", "-p", "-P", "correct horse", "-N", "", "-f"]).arg(&key),
    );
    let volume = testkit::hostile::volume_file(&bundle, 1);
    run_ok(
        command("age", &site.scratch("ssh"))
            .current_dir(site.scratch("ssh"))
            .args(["-d", "-o", "volume", "-i"])
            .arg(&key)
            .arg(volume),
    );
}

/// An age plugin (https://c2sp.org/age-plugin) for tests: its one secret is the PIN.
const PLUGIN: &str = r#"#!/usr/bin/env python3
import base64, hashlib, os, sys

PIN = b"2468"
CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"

def bech32(hrp, data):
    bits = "".join(f"{b:08b}" for b in data)
    bits += "0" * (-len(bits) % 5)
    words = [int(bits[i:i + 5], 2) for i in range(0, len(bits), 5)]
    def polymod(values):
        c = 1
        for v in values:
            top, c = c >> 25, (c & 0x1FFFFFF) << 5 ^ v
            for i, g in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
                c ^= g if top >> i & 1 else 0
        return c
    spread = [ord(x) >> 5 for x in hrp] + [0] + [ord(x) & 31 for x in hrp]
    check = polymod(spread + words + [0] * 6) ^ 1
    return hrp + "1" + "".join(CHARSET[w] for w in words + [check >> 5 * (5 - i) & 31 for i in range(6)])

def receive():
    words, body = sys.stdin.buffer.readline().decode().split()[1:], ""
    while True:
        line = sys.stdin.buffer.readline().decode().rstrip("\n")
        body += line
        if len(line) < 64:
            return words, base64.b64decode(body + "=" * (-len(body) % 4))

def send(*words, body=b""):
    text = base64.b64encode(body).decode().rstrip("=")
    lines = [text[i:i + 64] for i in range(0, len(text), 64)]
    if not lines or len(lines[-1]) == 64:
        lines.append("")
    sys.stdout.write("-> " + " ".join(words) + "\n" + "\n".join(lines) + "\n")
    sys.stdout.flush()

def ask(*words, body=b""):
    send(*words, body=body)
    return receive()

def mask(pin):
    return hashlib.sha256(b"test plugin" + pin).digest()[:16]

def xor(a, b):
    return bytes(x ^ y for x, y in zip(a, b))

def phase():
    while True:
        words, body = receive()
        if words[0] == "done":
            return
        yield words, body

machine = sys.argv[1].split("=")[1] if len(sys.argv) > 1 else ""
if machine == "recipient-v1":
    for words, body in phase():
        if words[0] == "wrap-file-key":
            key = body
    if os.environ.get("PLUGIN_FAILS"):
        ask("error", "internal", body=b"no \x1b[2J token")
    else:
        ask("recipient-stanza", "0", "sealtest", "abc", body=xor(key, mask(PIN)))
    send("done")
elif machine == "identity-v1":
    stanzas = [body for words, body in phase() if words[:3] == ["recipient-stanza", "0", "sealtest"]]
    if stanzas:
        ask("msg", body=b"touch the \x1b[2J token")
        words, pin = ask("request-secret", body=b"PIN")
        attempts = int(words[0] == "ok")
        if attempts and pin != PIN:
            words, pin = ask("request-secret", body=b"wrong PIN, once more")
            attempts += words[0] == "ok"
        if words[0] == "ok" and pin == PIN:
            ask("file-key", "0", body=xor(stanzas[0], mask(PIN)))
        else:
            ask("error", "identity", "0", body=b"wrong PIN (attempts: %d)" % attempts)
    send("done")
else:
    print(bech32("age1sealtest", b"recipient"))
    print(bech32("age-plugin-sealtest-", b"identity").upper())
"#;

#[test]
fn age_plugins_are_run_from_the_path() {
    use std::os::unix::fs::PermissionsExt;
    if !need(&[Site::NEEDS, &["python3", "age"]].concat()) {
        return;
    }
    let mut site = Site::new();
    let bin = site.scratch("bin");
    let plugin = bin.join("age-plugin-sealtest");
    fs::write(&plugin, PLUGIN).unwrap();
    fs::set_permissions(&plugin, fs::Permissions::from_mode(0o755)).unwrap();
    let path =
        std::env::join_paths(std::iter::once(bin).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())))
            .unwrap();
    let lines = run_ok(&mut command(&plugin, &site.scratch("plugin"))).stdout;
    let (recipient, identity) = lines.trim().split_once('\n').unwrap();
    site.release["recipients"] = serde_json::json!([recipient, site.recipient]);
    fs::write(site.import_dir().join("token.key"), format!("# a token\n{identity}\n")).unwrap();
    site.import["identity"] = "token.key".into();

    // Not installed: said before anything is fetched or opened.
    site.pack(42, &[]).expect_code(2).expect_stderr("age-plugin-sealtest is not installed");
    let pack = |environment: &[(&str, &str)]| {
        let mut pack = site.export(&["pack", "--sequence", "42", "--output"]);
        run(pack.arg(site.media()).env("PATH", &path).envs(environment.iter().copied()))
    };
    let debugged = pack(&[("AGEDEBUG", "plugin")]).expect_code(2);
    debugged.expect_stderr("AGEDEBUG is set");
    let failed = pack(&[("PLUGIN_FAILS", "1")]).expect_code(1).expect_stderr("age plugin: ");
    assert!(!failed.stderr.contains('\u{1b}') && failed.stderr.contains("token"), "{failed}");
    pack(&[]).expect_code(0);
    let bundle = site.media().join("payments-42");

    let receive = |pin: &str| {
        let mut receive = site.import(&["receive"]);
        receive.arg(&bundle).env("PATH", &path);
        if !pin.is_empty() {
            receive.env("SEALIFT_IDENTITY_PASSPHRASE", pin);
        }
        run(&mut receive)
    };
    site.receive(&bundle, &[]).expect_code(2).expect_stderr("age-plugin-sealtest is not installed");
    // A wrong PIN is given once, not until the token locks itself.
    let wrong = receive("1357").expect_code(2).expect_stderr("wrong PIN (attempts: 1)");
    assert!(!wrong.stderr.contains("1357"), "{wrong}");
    receive("").expect_code(2).expect_stderr("no terminal to ask on");
    let done = receive("2468").expect_code(0).expect_stderr("age-plugin-sealtest: touch the \\u{1b}[2J token");
    assert!(!done.stderr.contains("2468") && !done.stdout.contains("2468"), "{done}");

    // Stock age runs the same plugin for the same recipient; here it is the other one that opens it.
    let plain = site.import_dir().join("enclave.key");
    let volume = testkit::hostile::volume_file(&bundle, 1);
    run_ok(
        command("age", &site.scratch("plugin"))
            .current_dir(site.scratch("plugin"))
            .args(["-d", "-o", "volume", "-i"])
            .arg(plain)
            .arg(&volume),
    );
    let mut encrypt = command("age", &site.scratch("plugin"));
    encrypt
        .current_dir(site.scratch("plugin"))
        .env("PATH", &path)
        .args(["-r", recipient, "-o"])
        .arg(&volume)
        .arg("volume");
    fs::remove_file(&volume).unwrap();
    run_ok(&mut encrypt);
    testkit::hostile::reseal(&bundle, &|bytes| site.release_key.sign(bytes));
    let mut verify = site.import(&["verify"]);
    run(verify.arg(&bundle).env("PATH", &path).env("SEALIFT_IDENTITY_PASSPHRASE", "2468")).expect_code(0);
}
