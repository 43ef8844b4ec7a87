//! Several volumes in one folder, and volumes that are made again.

use std::fs;

use testkit::hostile::{self, volume_file};
use testkit::{Opened, Site, need, run, run_ok};

use crate::{is_in_production, large, names, packed, receive};

const MIB: u64 = 1 << 20;

#[test]
fn a_release_is_cut_into_volumes_and_comes_out_whole() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let digest = large(&mut site);
    let plan =
        run(&mut site.export(&["plan", "--sequence", "1", "--volume-size", "1MiB", "--json"])).expect_code(0).json();
    let bundle = packed(&site, 1, &["--volume-size", "1MiB"]);
    let volumes: Vec<_> = names(&bundle).into_iter().filter(|name| name.ends_with(".age")).collect();
    assert!(volumes.len() >= 5, "{volumes:?}");
    assert_eq!(plan["volumes"].as_array().unwrap().len(), volumes.len(), "as planned");
    for (planned, name) in plan["volumes"].as_array().unwrap().iter().zip(&volumes) {
        let size = fs::metadata(bundle.join(name)).unwrap().len();
        assert!(size <= planned["at_most_bytes"].as_u64().unwrap(), "{name}: {size}, {planned}");
        assert!(planned["at_most_bytes"].as_u64().unwrap() <= MIB);
    }
    let label = fs::read_to_string(bundle.join("LABEL.txt")).unwrap();
    assert!(label.contains("come in parts"), "{label}");
    run(site.import(&["check"]).arg(&bundle)).expect_code(0);
    run(site.import(&["verify"]).arg(&bundle)).expect_code(0);
    let ran = receive(&site, &[&bundle], &[]).expect_code(0);
    assert!(ran.stdout.contains(&digest.to_string()), "{ran}");
    is_in_production(&site, &digest);
    receive(&site, &[&bundle], &[]).expect_code(0);
}

/// The commands on the label make a layout that skopeo reads.
#[test]
fn parts_are_joined_with_stock_tools_as_the_label_says() {
    if !need(Site::NEEDS) || !need(&["age", "zstd", "tar", "skopeo"]) {
        return;
    }
    let mut site = Site::new();
    let digest = large(&mut site);
    let bundle = packed(&site, 1, &["--volume-size", "1MiB"]);
    let layout = site.unpack_with_stock_tools(&bundle);
    let label = fs::read_to_string(bundle.join("LABEL.txt")).unwrap();
    let commands: Vec<_> =
        label.lines().filter(|l| l.starts_with("    find blobs") || l.starts_with("    for p in")).collect();
    assert_eq!(commands.len(), 2, "{label}");
    run_ok(testkit::command("bash", &layout).args(["-e", "-c", &commands.join("\n")]).current_dir(&layout));
    let reference = format!("oci:{}:{}/payments/large:1", layout.display(), site.origin.host());
    let raw = run_ok(testkit::command("skopeo", &layout).args(["inspect", "--raw", &reference]));
    assert_eq!(blobs::sha256(raw.stdout.as_bytes()), digest);
    run_ok(
        testkit::command("skopeo", &layout)
            .args(["copy", "--insecure-policy", &reference])
            .arg(format!("dir:{}", site.scratch("copied").display())),
    );
}

#[test]
fn the_volumes_of_a_release_are_the_same_each_time() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    large(&mut site);
    let args = ["--volume-size", "1MiB", "--bundle-id", "019c133c-3ed0-7b6e-9d3c-52e5d1a7f0c4"];
    let pack = |output: &str| {
        let (out, state) = (site.scratch(output), site.scratch(&format!("{output}-state")));
        let mut command = site.export(&["pack", "--sequence", "1"]);
        command.args(args).arg("--output").arg(&out).arg("--state").arg(state).env("SOURCE_DATE_EPOCH", "1767225600");
        run(&mut command).expect_code(0);
        out.join("payments-1")
    };
    let (first, second) = (pack("first"), pack("second"));
    for name in names(&first).iter().filter(|name| name.ends_with(".age")) {
        assert_ne!(fs::read(first.join(name)).unwrap(), fs::read(second.join(name)).unwrap(), "ciphertext");
        let number = name.split('.').nth(1).unwrap().parse().unwrap();
        let entries = |bundle| {
            let mut opened = Opened::open(bundle, number, &site.identity);
            if number == 1 {
                opened.remove(hostile::MANIFEST_SIGNATURE);
            }
            opened.entries
        };
        assert!(entries(&first) == entries(&second), "{name}");
    }
}

#[test]
fn a_volume_made_again_fits_between_the_old_ones() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let digest = large(&mut site);
    let args = ["--volume-size", "1MiB"];
    let bundle = packed(&site, 1, &args);
    // The tag names another image meanwhile: what was packed is what is made again.
    let kept = site.release.clone();
    site.list_layers("1", &[b"another image"]);
    site.release = kept;
    let ran = site.pack(1, &["--volume-size", "1MiB", "--volume", "3,5"]).expect_code(0);
    assert!(ran.stdout.contains("made again") && ran.stdout.contains("seal revision 2"), "{ran}");
    let again = site.media().join("payments-1.revision-2");
    let expected =
        ["LABEL.txt", "SHA256SUMS", "SHA256SUMS.asc", "payments-1.0003.tar.zst.age", "payments-1.0005.tar.zst.age"];
    assert_eq!(names(&again), expected);
    for number in [3, 5] {
        let entries = |bundle| Opened::open(bundle, number, &site.identity).entries;
        assert!(entries(&bundle) == entries(&again), "volume {number} has the same content");
        fs::write(volume_file(&bundle, number), "scratched").unwrap();
    }
    receive(&site, &[&bundle], &[]).expect_code(4).expect_stderr("0003.tar.zst.age");
    assert!(site.production.tags().is_empty());
    // The old seal vouches for the other volumes, in whatever order the folders are named.
    let copied = site.copy(&bundle, "old");
    receive(&site, &[&copied, &again], &[]).expect_code(0);
    is_in_production(&site, &digest);
    // The same, with the new volumes copied over the old ones, but not their seal.
    for number in [3, 5] {
        fs::copy(volume_file(&again, number), volume_file(&bundle, number)).unwrap();
    }
    run(site.import(&["verify"]).arg(&bundle)).expect_code(4);
    run(site.import(&["verify"]).arg(&bundle).arg(&again)).expect_code(0);
    // A third revision names the second one's volumes.
    site.pack(1, &["--volume-size", "1MiB", "--volume", "1"]).expect_code(0);
    let third = fs::read_to_string(site.media().join("payments-1.revision-3/SHA256SUMS")).unwrap();
    let second = fs::read_to_string(again.join("SHA256SUMS")).unwrap();
    let line = |seal: &str, volume: &str| seal.lines().find(|l| l.ends_with(volume)).map(str::to_string);
    assert_eq!(line(&third, "0003.tar.zst.age"), line(&second, "0003.tar.zst.age"));
    assert_ne!(line(&third, "0001.tar.zst.age"), line(&second, "0001.tar.zst.age"));
}

/// The bundle has left, and packing it once more failed: what its seal says is still known.
#[test]
fn a_failed_run_does_not_forget_what_was_sealed() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let digest = large(&mut site);
    let proxy = testkit::Proxy::before(&site.origin);
    let at_proxy = site.release["images"][0].as_str().unwrap().replace(site.origin.host(), proxy.host());
    site.release["images"][0] = at_proxy.into();
    site.import["streams"]["payments"]["origins"][0] = format!("{}/payments", proxy.host()).into();
    site.import["streams"]["payments"]["to"][0]["from"] = format!("{}/payments", proxy.host()).into();
    let args = ["--volume-size", "1MiB"];
    let bundle = packed(&site, 1, &args);
    let away = site.scratch("stick").join("payments-1");
    fs::rename(&bundle, &away).unwrap();
    proxy.rule(testkit::Rule::new(testkit::Fault::status(403)).method("GET").path("/blobs/").nth(4));
    site.pack(1, &args).expect_code(1);
    proxy.clear();
    site.pack(1, &["--volume-size", "1MiB", "--volume", "5"]).expect_code(0);
    let again = site.media().join("payments-1.revision-2");
    let seal = fs::read_to_string(again.join("SHA256SUMS")).unwrap().replacen("# again 5\n", "", 1);
    let old = fs::read_to_string(away.join("SHA256SUMS")).unwrap();
    assert_eq!(seal.lines().count(), old.lines().count(), "every volume is named");
    let differs = seal.lines().zip(old.lines()).skip(2).filter(|(new, old)| new != old).count();
    assert_eq!(differs, 1, "and one of them is new: {old}{seal}");
    fs::write(volume_file(&away, 5), "scratched").unwrap();
    receive(&site, &[&away, &again], &[]).expect_code(0);
    is_in_production(&site, &digest);
    // A record that does not know every volume makes no seal.
    let record = site.export_dir().join("home/.local/state/sealift/bundles/payments-1/record.json");
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    json["sealed"]["volumes"].as_object_mut().unwrap().remove("2").unwrap();
    fs::write(&record, json.to_string()).unwrap();
    let refused = site.pack(1, &["--volume-size", "1MiB", "--volume", "5"]).expect_code(1);
    assert!(refused.stderr.contains("and a seal must name them all"), "{refused}");
}

/// Two people sign, on two machines; one of them makes volume 1 again, with both signatures in it.
#[test]
fn volume_1_made_again_keeps_the_signatures_of_all() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let digest = large(&mut site);
    let second = testkit::Key::new(&site.scratch("second"), "second");
    let trust = &mut site.import["streams"]["payments"]["release"];
    trust["certificates"] = serde_json::json!(["trust/release.asc", &second.certificate_file]);
    trust["threshold"] = 2.into();
    let plan = site.scratch("plans").join("plan");
    run(site.export(&["plan", "--sequence", "1", "--volume-size", "1MiB", "--write"]).arg(&plan)).expect_code(0);
    let sign = |what: &std::path::Path| {
        run(site.export(&["sign", "--sign-key"]).arg(&second.secret_file).arg(what)).expect_code(0);
    };
    sign(&plan);
    let pack = |args: &[&str]| {
        run(site.export(&["pack"]).arg(&plan).arg("--output").arg(site.media()).args(args)).expect_code(0)
    };
    pack(&[]);
    let bundle = site.media().join("payments-1");
    sign(&bundle);
    fs::write(volume_file(&bundle, 1), "scratched").unwrap();
    pack(&["--volume", "1"]);
    let again = site.media().join("payments-1.revision-2");
    let one = receive(&site, &[&bundle, &again], &[]).expect_code(3);
    assert!(one.stderr.contains("the seal is not signed"), "{one}");
    sign(&again);
    let seal = fs::read_to_string(again.join("SHA256SUMS")).unwrap();
    assert_eq!(seal.lines().nth(1), Some("# again 1"), "{seal}");
    let alone = run(site.import(&["check"]).arg(&again)).expect_code(0);
    assert!(alone.stdout.contains("come without the others: 2, 3"), "{alone}");
    run(site.import(&["check", "--all"]).arg(&again)).expect_code(4);
    receive(&site, &[&bundle, &again], &[]).expect_code(0);
    is_in_production(&site, &digest);
}

/// All of it packed once more: the seal is of a higher revision, and still speaks of all of it.
#[test]
fn a_bundle_packed_twice_must_be_whole() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    large(&mut site);
    let args = ["--volume-size", "1MiB"];
    let bundle = packed(&site, 1, &args);
    fs::rename(&bundle, site.scratch("stick").join("payments-1")).unwrap();
    let bundle = packed(&site, 1, &args);
    let seal = fs::read_to_string(bundle.join("SHA256SUMS")).unwrap();
    assert!(seal.lines().next().unwrap().contains(" 2 sha256:") && !seal.contains("# again"), "{seal}");
    run(site.import(&["check"]).arg(&bundle)).expect_code(0);
    fs::remove_file(volume_file(&bundle, 3)).unwrap();
    run(site.import(&["check"]).arg(&bundle)).expect_code(4);
    run(site.export(&["sign"]).arg(&bundle)).expect_code(4);
    // What was sealed last stands, whatever a later run left behind.
    fs::rename(&bundle, site.scratch("stick").join("second")).unwrap();
    fs::create_dir(site.media().join("payments-1.partial")).unwrap();
    fs::write(site.media().join("payments-1.partial/begun"), "").unwrap();
    site.pack(1, &["--volume-size", "1MiB", "--volume", "3"]).expect_code(0);
    let third = fs::read_to_string(site.media().join("payments-1.revision-3/SHA256SUMS")).unwrap();
    let line = |seal: &str| seal.lines().find(|l| l.ends_with("0004.tar.zst.age")).map(str::to_string);
    assert_eq!(line(&seal), line(&third));
    assert!(site.media().join("payments-1.partial/begun").exists());
}

/// Of two copies of a volume, one is enough.
#[test]
fn a_good_copy_is_taken_for_a_damaged_one() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let digest = large(&mut site);
    let bundle = packed(&site, 1, &["--volume-size", "1MiB"]);
    let copy = site.copy(&bundle, "copy");
    for (folder, number) in [(&bundle, 3), (&copy, 5)] {
        hostile::flip_bit(&volume_file(folder, number));
        receive(&site, &[folder], &[]).expect_code(4);
    }
    // Of the first volume, whose head is needed before anything is known.
    fs::write(volume_file(&bundle, 1), "scratched").unwrap();
    let alone = run(site.import(&["inspect"]).arg(&bundle)).expect_code(4);
    assert!(alone.stderr.contains("differs from the seal"), "{alone}");
    run(site.import(&["inspect"]).arg(&bundle).arg(&copy)).expect_code(0);
    let all = run(site.import(&["verify"]).arg(&bundle).arg(&copy)).expect_code(4);
    assert_eq!(all.stdout.matches("PROBLEM  file payments-1").count(), 3, "every copy is looked at: {all}");
    let ran = receive(&site, &[&bundle, &copy], &[]).expect_code(0);
    assert!(ran.stderr.contains("another copy is looked for"), "{ran}");
    is_in_production(&site, &digest);
}

#[test]
fn a_lock_file_says_how_the_bundle_is_cut() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    large(&mut site);
    packed(&site, 1, &[]);
    let lock = site.scratch("lock").join("lock.yaml");
    let args = [
        "plan",
        "--sequence",
        "2",
        "--media",
        "4MiB",
        "--volume-size",
        "1MiB",
        "--recovery",
        "5%",
        "--base",
        "payments-1",
    ];
    run(site.export(&args).args(["--with-importer", "release.yaml", "--lock"]).arg(&lock)).expect_code(0);
    let text = fs::read_to_string(&lock).unwrap();
    for line in [
        "base: \"payments-1\"",
        "\"media\":\"4194304\"",
        "\"size\":\"1048576\"",
        "\"recovery\":\"5%\"",
        "export/release.yaml",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    run(site.export(&["pack", "--file"]).arg(&lock).arg("--output").arg(site.media())).expect_code(0);
}

#[test]
fn what_cannot_be_made_again_is_said() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    large(&mut site);
    let never = site.pack(1, &["--volume", "1"]).expect_code(2);
    assert!(never.stderr.contains("payments-1 was not packed by this request"), "{never}");
    packed(&site, 1, &["--volume-size", "1MiB"]);
    let other = site.pack(1, &["--volume", "1", "--volume-size", "2MiB"]).expect_code(2);
    assert!(other.stderr.contains("was not packed by this request"), "{other}");
    let none = site.pack(1, &["--volume-size", "1MiB", "--volume", "99"]).expect_code(2);
    assert!(none.stderr.contains("there is no volume 99: the bundle has"), "{none}");
    let too_small = site.pack(2, &["--volume-size", "4096"]).expect_code(2);
    assert!(too_small.stderr.contains("at least 1 MiB"), "{too_small}");
}

/// Sealed by the release key, so that only what stands inside is at fault.
#[test]
fn parts_that_are_not_what_the_manifest_says_are_refused() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    large(&mut site);
    let bundle = packed(&site, 1, &["--volume-size", "1MiB"]);
    let part = |volume: u32, end: &str| {
        let names = Opened::open(&bundle, volume, &site.identity).names();
        names.into_iter().find(|name| name.contains(".part-") && name.ends_with(end))
    };
    let first = (1..10).find(|volume| part(*volume, ".sha256").is_some()).expect("a blob in parts");
    let (one, two) = (first, first + 1);
    let (sum, content) = (part(one, ".sha256").unwrap(), part(one, "-0001").unwrap());
    let second = part(two, "-0002").expect("its second part");
    type Edit<'e> = Box<dyn Fn(&mut Opened) + 'e>;
    let cases: Vec<(&str, u32, &str, Edit<'_>)> = vec![
        (
            "another digest behind it",
            one,
            "is not what follows from the manifest",
            Box::new(|o| {
                let other = String::from_utf8(o.content(&sum).to_vec()).unwrap().replacen(|c| c != '0', "0", 1);
                o.replace(&sum, other.as_bytes());
            }),
        ),
        ("no digest behind it", one, "expected the entry", Box::new(|o| drop(o.remove(&sum)))),
        (
            "other bytes and their digest",
            one,
            "the bundle's blob is wrong",
            Box::new(|o| {
                let mut bytes = o.content(&content).to_vec();
                bytes[1000] ^= 1;
                let line = format!("{}  {}\n", blobs::sha256(&bytes).hex(), content.rsplit('/').next().unwrap());
                o.replace(&content, &bytes);
                o.replace(&sum, line.as_bytes());
            }),
        ),
        (
            "one byte less",
            one,
            "bytes, expected",
            Box::new(|o| {
                let bytes = o.content(&content).to_vec();
                o.replace(&content, &bytes[1..]);
            }),
        ),
        (
            "another part's name",
            two,
            "expected the entry",
            Box::new(|o| {
                let entry = o.remove(&second).pop().unwrap();
                let at = o.entries.len() - 1;
                o.entries.insert(at, testkit::hostile::TarEntry::file(&content, &entry.content));
            }),
        ),
        (
            "another volume's head",
            two,
            "is not what follows from the manifest",
            Box::new(|o| {
                let head = String::from_utf8(o.content("sealift/volume.json").to_vec()).unwrap();
                o.replace("sealift/volume.json", head.replace(&format!("\"volume\":{two}"), "\"volume\":9").as_bytes());
            }),
        ),
        (
            "another bundle's head",
            two,
            "is not what follows from the manifest",
            Box::new(|o| {
                let head = String::from_utf8(o.content("sealift/volume.json").to_vec()).unwrap();
                let at = head.find("\"bundle\":\"").unwrap() + 10;
                let mut other = head.into_bytes();
                other[at + 30] = if other[at + 30] == b'0' { b'1' } else { b'0' };
                o.replace("sealift/volume.json", &other);
            }),
        ),
        ("no head", two, "expected the entry", Box::new(|o| drop(o.remove("sealift/volume.json")))),
        (
            "one entry too many",
            two,
            "one entry too many",
            Box::new(|o| {
                o.entries.push(testkit::hostile::TarEntry::file("more", b"x"));
            }),
        ),
    ];
    for (what, volume, says, edit) in cases {
        let copy = site.copy(&bundle, &what.replace(' ', "-"));
        let mut opened = Opened::open(&copy, volume, &site.identity);
        edit(&mut opened);
        opened.encrypt(&site.identity);
        hostile::reseal(&copy, &|bytes| site.release_key.sign(bytes));
        for command in ["verify", "receive"] {
            let ran = run(site.import(&[command]).arg(&copy));
            assert_eq!(ran.code, Some(3), "{what}, {command}: {ran}");
            let text = if command == "verify" { &ran.stdout } else { &ran.stderr };
            assert!(text.contains(says), "{what}, {command}: {ran}");
        }
        assert!(site.production.tags().is_empty() && !site.lookaside().join("payments").exists(), "{what}");
    }
    // Two volumes in each other's place.
    let copy = site.copy(&bundle, "swapped");
    fs::copy(volume_file(&bundle, one), volume_file(&copy, two)).unwrap();
    fs::copy(volume_file(&bundle, two), volume_file(&copy, one)).unwrap();
    hostile::reseal(&copy, &|bytes| site.release_key.sign(bytes));
    receive(&site, &[&copy], &[]).expect_code(3);
    assert!(site.production.tags().is_empty());
}

/// A signer's key that has expired since does not keep volumes from being made again.
#[test]
fn a_signature_that_is_no_longer_good_is_left_out() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    large(&mut site);
    let expires = manifest_schema::Timestamp::from_unix(manifest_schema::Timestamp::now().unix() + 12).unwrap();
    let folder = site.scratch("second");
    let second = testkit::Key::with(&folder, "second", "2024-01-01T00:00:00Z", Some(&expires.to_string()));
    let plan = site.scratch("plans").join("plan");
    run(site.export(&["plan", "--sequence", "1", "--volume-size", "1MiB", "--write"]).arg(&plan)).expect_code(0);
    run(site.export(&["sign", "--sign-key"]).arg(&second.secret_file).arg(&plan)).expect_code(0);
    let pack = |args: &[&str]| run(site.export(&["pack"]).arg(&plan).arg("--output").arg(site.media()).args(args));
    pack(&[]).expect_code(0);
    while manifest_schema::Timestamp::now() <= expires {
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    let ran = pack(&["--volume", "3"]).expect_code(0);
    assert!(ran.stderr.contains("a signature is left out"), "{ran}");
}
