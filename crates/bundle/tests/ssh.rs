//! SSH keys as age recipients and identities, against OpenSSH's ssh-keygen and stock age.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use bundle::{AgeError, Content, Identities, Recipients, VolumeError, VolumeReader, VolumeWriter, parse_recipient};

fn have(programs: &[&str]) -> bool {
    for program in programs {
        let found = std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()));
        if !found {
            assert!(std::env::var_os("CI").is_none(), "{program} is needed");
            println!("skipped: {program} is not installed");
            return false;
        }
    }
    true
}

fn ran(command: &mut Command) -> Vec<u8> {
    let output = command.output().expect("run");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A key pair of ssh-keygen: the private file, and the line of the public one.
fn ssh_key(dir: &Path, name: &str, kind: &[&str], passphrase: &str) -> (PathBuf, String) {
    let path = dir.join(name);
    ran(Command::new("ssh-keygen")
        .args(["-q", "-C", "a comment", "-N", passphrase, "-f"])
        .arg(&path)
        .arg("-t")
        .args(kind));
    let line = std::fs::read_to_string(path.with_extension("pub")).expect("read");
    (path, line.trim().into())
}

fn write(dir: &Path, recipients: &[&str]) -> PathBuf {
    let path = dir.join("volume");
    let _ = std::fs::remove_file(&path);
    let recipients = Recipients::parse(recipients.iter().copied()).expect("recipients");
    let mut writer =
        VolumeWriter::new(Box::new(File::create_new(&path).expect("created")), &recipients, 0).expect("begun");
    writer.entry("hello", 5, Content::Plain, &b"world"[..]).expect("written");
    writer.finish().expect("finished");
    path
}

fn read(path: &Path, identities: &Identities) -> Result<Vec<u8>, VolumeError> {
    let mut reader = VolumeReader::open(Box::new(File::open(path).expect("open")), identities, false)?;
    assert_eq!(reader.next_entry()?.expect("an entry").name, b"hello");
    let mut content = Vec::new();
    std::io::Read::read_to_end(&mut reader.content(), &mut content).expect("read");
    reader.finish()?;
    Ok(content)
}

fn secret(text: &str) -> age::secrecy::SecretString {
    text.to_string().into()
}

#[test]
fn ssh_ed25519_keys_open_what_was_packed_for_them() {
    if !have(&["ssh-keygen", "age", "zstd", "tar"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let (file, line) = ssh_key(dir, "plain", &["ed25519"], "");
    let (locked, locked_line) = ssh_key(dir, "locked", &["ed25519"], "sesame");
    let (other, _) = ssh_key(dir, "other", &["ed25519"], "");
    let plain = parse_recipient(&line).expect("a recipient");
    assert!(line.starts_with(&plain) && !plain.contains("comment"), "{plain}");

    let identity = Identities::load(&file, || Err("asked".into())).expect("loaded");
    assert_eq!(identity.recipients().as_slice(), std::slice::from_ref(&plain));
    let protected = Identities::load(&locked, || Ok(secret("sesame"))).expect("unlocked");
    let stranger = Identities::load(&other, || Err("asked".into())).expect("loaded");
    let volume = write(dir, &[&line, &locked_line]);
    for identities in [&identity, &protected] {
        assert_eq!(read(&volume, identities).expect("opened"), b"world");
    }
    assert!(matches!(read(&volume, &stranger), Err(VolumeError::NoIdentity)));

    // Stock age opens ours, and what stock age wrote opens here.
    let compressed = ran(Command::new("age").arg("-d").arg("-i").arg(&file).arg(&volume));
    let theirs = dir.join("theirs");
    std::fs::write(dir.join("compressed"), compressed).expect("written");
    ran(Command::new("age").args(["-r", &locked_line, "-o"]).arg(&theirs).arg(dir.join("compressed")));
    assert_eq!(read(&theirs, &protected).expect("opened"), b"world");
    assert!(matches!(read(&theirs, &identity), Err(VolumeError::NoIdentity)));
}

#[test]
fn ssh_keys_of_other_kinds_and_wrong_passphrases_are_refused() {
    if !have(&["ssh-keygen"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    let load = |path: &Path| Identities::load(path, || Err("asked".into())).err().expect("refused");
    let (rsa, rsa_line) = ssh_key(dir, "rsa", &["rsa", "-b", "2048"], "");
    let (locked_rsa, _) = ssh_key(dir, "locked-rsa", &["rsa", "-b", "2048"], "sesame");
    let (pem, _) = ssh_key(dir, "pem", &["rsa", "-b", "2048", "-m", "PEM"], "");
    for path in [&rsa, &locked_rsa, &pem] {
        let error = load(path);
        assert!(matches!(error, AgeError::SshRsa(_)) && error.to_string().contains("RUSTSEC-2023-0071"), "{error}");
    }
    assert!(matches!(parse_recipient(&rsa_line), Err(AgeError::SshRsa(_))));
    assert!(matches!(Recipients::parse([rsa_line.as_str()]), Err(AgeError::SshRsa(_))));
    let (ecdsa, ecdsa_line) = ssh_key(dir, "ecdsa", &["ecdsa"], "");
    assert!(matches!(load(&ecdsa), AgeError::SshKind(_)));
    assert!(matches!(parse_recipient(&ecdsa_line), Err(AgeError::Recipient(_))));

    let (locked, line) = ssh_key(dir, "locked", &["ed25519"], "sesame");
    assert!(matches!(load(&locked), AgeError::Passphrase { .. }));
    let wrong = Identities::load(&locked, || Ok(secret("open"))).err().expect("refused");
    assert!(matches!(wrong, AgeError::WrongPassphrase(_)), "{wrong}");
    for bad in [line[..60].to_string(), line.replace("ssh-ed25519", "ssh-ed448"), format!("\u{1b}[2J {line}")] {
        assert!(matches!(parse_recipient(&bad), Err(AgeError::Recipient(_))), "{bad}");
    }
    let text = std::fs::read_to_string(&locked).expect("read");
    std::fs::write(&locked, &text[..text.len() / 2]).expect("written");
    assert!(matches!(load(&locked), AgeError::Identity(_)));
}
