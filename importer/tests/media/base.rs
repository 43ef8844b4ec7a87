//! Incremental bundles: what production has already is not carried, and proven to be there.

use std::fs;
use std::path::{Path, PathBuf};

use manifest_schema::Digest;
use testkit::layout::noise;
use testkit::{Layout, Opened, Site, need, run, sealift_import};

use crate::{packed, receive};

const BIG: usize = 900_000;

/// `payments-1` with two layers, received, and `payments-2`, which shares the first of them, packed on top of it.
fn two(site: &mut Site) -> (PathBuf, PathBuf, Digest) {
    site.list_layers("1", &[&noise(1, BIG), &noise(2, 1000)]);
    let first = packed(site, 1, &[]);
    let digest = site.list_layers("2", &[&noise(1, BIG), &noise(3, 1000)]);
    let second = packed(site, 2, &["--base", "payments-1"]);
    (first, second, digest)
}

fn bytes(bundle: &Path) -> u64 {
    fs::metadata(testkit::hostile::volume_file(bundle, 1)).unwrap().len()
}

/// The layer that both have.
fn shared(site: &Site, bundle: &Path) -> Digest {
    let manifest = Opened::open(bundle, 1, &site.identity).manifest();
    let left = manifest["blobs"].as_array().unwrap().iter().find(|b| b["stored"] == "base");
    left.expect("a blob left to the base")["digest"].as_str().unwrap().parse().unwrap()
}

#[test]
fn what_production_has_is_not_carried() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let (first, second, digest) = two(&mut site);
    assert!(bytes(&first) > BIG as u64 && bytes(&second) < 50_000, "{} {}", bytes(&first), bytes(&second));
    let plan = run(&mut site.export(&["plan", "--sequence", "3", "--base", "payments-1"])).expect_code(0);
    assert!(plan.stdout.contains("are left to the base"), "{plan}");
    let label = fs::read_to_string(second.join("LABEL.txt")).unwrap();
    assert!(label.contains("Base:        payments-1"), "{label}");
    receive(&site, &[&first], &[]).expect_code(0);
    receive(&site, &[&second], &["--dry-run"]).expect_code(0);
    receive(&site, &[&second], &[]).expect_code(0);
    assert!(site.production.tags().values().any(|d| *d == digest));
    if need(&["skopeo"]) {
        site.skopeo_verifies("payments/large", "2").expect_code(0);
    }
    // On top of one that was itself packed on top of another: the manifest of the middle one lists all.
    site.list_layers("3", &[&noise(1, BIG), &noise(4, 1000)]);
    let third = packed(&site, 3, &["--base", "payments-2"]);
    assert!(bytes(&third) < 50_000);
    receive(&site, &[&third], &[]).expect_code(0);
}

#[test]
fn a_base_that_is_not_in_production_is_refused_with_the_way_out() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let (first, second, _) = two(&mut site);
    let ran = receive(&site, &[&second], &[]).expect_code(3);
    assert!(
        ran.stderr.contains("the bundle builds on payments-1") && ran.stderr.contains("--base-proof read"),
        "{ran}"
    );
    assert!(site.production.is_empty(), "nothing was pushed");
    // Nor does reading help where there is nothing to read.
    let ran = receive(&site, &[&second], &["--base-proof", "read"]).expect_code(3);
    let layer = shared(&site, &second);
    assert!(ran.stderr.contains(&format!("production lacks {layer}")), "{ran}");
    assert!(site.production.is_empty(), "nothing was pushed");

    // Somebody put the layer there by hand: the ledger knows of nothing, its bytes prove it.
    let content = Opened::open(&first, 1, &site.identity).content(&layer.layout_path()).to_vec();
    site.production.put_blob("payments/large", &layer, &content);
    receive(&site, &[&second], &[]).expect_code(3);
    receive(&site, &[&second], &["--base-proof", "read"]).expect_code(0);
}

#[test]
fn a_blob_that_production_has_lost_is_named_before_anything_is_pushed() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let (first, second, _) = two(&mut site);
    receive(&site, &[&first], &[]).expect_code(0);
    let layer = shared(&site, &second);
    site.production.lose_blob(&layer);
    let before = site.production.snapshot();
    let ran = receive(&site, &[&second], &[]).expect_code(3);
    assert!(ran.stderr.contains(&format!("production lacks {layer}")), "{ran}");
    assert!(ran.stderr.contains("packed without --base"), "{ran}");
    assert_eq!(before, site.production.snapshot());
}

#[test]
fn a_damaged_blob_of_the_base_is_found_by_reading() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let (first, second, _) = two(&mut site);
    receive(&site, &[&first], &[]).expect_code(0);
    site.production.damage_blob(&shared(&site, &second));
    let tags = site.production.tags();
    let ran = receive(&site, &[&second], &["--base-proof", "read"]).expect_code(1);
    assert!(ran.stderr.contains("a blob of the base cannot be read"), "{ran}");
    assert_eq!(tags, site.production.tags());
}

/// The base went into one repository, and the new image goes into another.
#[test]
fn what_the_base_left_is_mounted_where_it_is_needed() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let (first, _, _) = two(&mut site);
    receive(&site, &[&first], &[]).expect_code(0);
    let other = packed(&site, 4, &["--base", "payments-1"]);
    assert!(bytes(&other) < 50_000);
    site.import["streams"]["payments"]["to"][0]["to"] = format!("{}/elsewhere", site.production.host()).into();
    receive(&site, &[&other], &[]).expect_code(0);
    assert!(site.production.tags().keys().any(|tag| tag.contains("elsewhere/large")), "{:?}", site.production.tags());
}

#[test]
fn only_sealed_bundles_and_manifests_are_bases() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let (first, second, _) = two(&mut site);
    let unknown = site.pack(5, &["--base", "payments-77"]).expect_code(2);
    assert!(unknown.stderr.contains("no bundle of this name was packed and sealed here"), "{unknown}");
    let missing = site.pack(5, &["--base", "./none.json"]).expect_code(2);
    assert!(missing.stderr.contains("cannot serve as a base"), "{missing}");
    // A manifest from elsewhere.
    let file = site.export_dir().join("first.json");
    fs::write(&file, Opened::open(&first, 1, &site.identity).content(testkit::hostile::MANIFEST)).unwrap();
    let third = packed(&site, 6, &["--base", "./first.json"]);
    assert!(bytes(&third) < 50_000);
    // Begun, and never sealed: nobody may have it.
    let kept = site.release.clone();
    site.release["images"] = serde_json::json!(["127.0.0.1:1/payments/large:1"]);
    let record = site.export_dir().join("home/.local/state/sealift/bundles/payments-1/record.json");
    site.release = kept;
    let text = fs::read_to_string(&record).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    json["sealed"] = serde_json::Value::Null;
    fs::write(&record, json.to_string()).unwrap();
    let unsealed = site.pack(7, &["--base", "payments-1"]).expect_code(2);
    assert!(unsealed.stderr.contains("no bundle of this name was packed and sealed here"), "{unsealed}");
    fs::write(&record, text).unwrap();
    // Of another release line.
    site.release["stream"] = "other".into();
    let other = site.pack(8, &["--base", "payments-1"]).expect_code(2);
    assert!(other.stderr.contains("it is of stream payments, and not of other"), "{other}");
    site.release["stream"] = "payments".into();
    // Another base is another bundle.
    let other = site.pack(2, &[]).expect_code(2);
    assert!(other.stderr.contains("payments-2"), "{other}");
    let _ = second;
}

/// What the ledger knows of a base must be what the bundle says of it.
#[test]
fn a_base_is_the_bundle_that_was_published() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let (first, second, _) = two(&mut site);
    let verify = |bundle: &Path| run(site.import(&["verify"]).arg(bundle));
    let before = verify(&second).expect_code(3);
    assert!(before.stdout.contains("PROBLEM  base in the ledger"), "{before}");
    let inspected = run(site.import(&["inspect"]).arg(&second)).expect_code(0);
    assert!(inspected.stdout.contains("are left to the base payments-1"), "{inspected}");
    // Begun, and stopped before anything was published: its blobs may be there, and nothing refers to them.
    let whole = fs::read(testkit::hostile::volume_file(&first, 1)).unwrap();
    fs::write(testkit::hostile::volume_file(&first, 1), &whole[..whole.len() - 1]).unwrap();
    receive(&site, &[&first], &[]).expect_code(4);
    assert!(!site.production.uploaded_blobs().is_empty());
    let ran = receive(&site, &[&second], &[]).expect_code(3);
    assert!(ran.stderr.contains("which the ledger does not have recorded"), "{ran}");
    fs::write(testkit::hostile::volume_file(&first, 1), whole).unwrap();
    receive(&site, &[&first], &[]).expect_code(0);
    verify(&second).expect_code(0);
    // The same id with another manifest is another bundle.
    let manifest = Opened::open(&first, 1, &site.identity).content(testkit::hostile::MANIFEST).to_vec();
    let other = String::from_utf8(manifest).unwrap().replacen("\"labels\":{}", "\"labels\":{\"a\":\"b\"}", 1);
    fs::write(site.export_dir().join("other.json"), other).unwrap();
    let third = packed(&site, 3, &["--base", "./other.json"]);
    let ran = receive(&site, &[&third], &[]).expect_code(3);
    assert!(ran.stderr.contains("which the ledger does not have recorded"), "{ran}");
}

/// A base is asked of the ledger only where the ledger decides: not with `base_proof: read`, and not where there is none.
#[test]
fn verify_asks_the_ledger_for_a_base_only_where_receive_does() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let (first, second, _) = two(&mut site);
    let refused = run(site.import(&["verify"]).arg(&second)).expect_code(3);
    assert!(refused.stdout.contains("PROBLEM  base in the ledger"), "{refused}");

    let layer = shared(&site, &second);
    let content = Opened::open(&first, 1, &site.identity).content(&layer.layout_path()).to_vec();
    site.production.put_blob("payments/large", &layer, &content);
    site.import["base_proof"] = "read".into();
    let verified = run(site.import(&["verify"]).arg(&second)).expect_code(0);
    assert!(verified.stdout.contains("good     sequence"), "{verified}");
    assert!(!verified.stdout.contains("base"), "{verified}");
    receive(&site, &[&second], &[]).expect_code(0);
    run(site.import(&["verify"]).arg(&second)).expect_code(0);

    // No ledger, and no configuration that demands one.
    let elsewhere = site.scratch("elsewhere");
    let at = |name: &str| site.import_dir().join(name).display().to_string();
    let (trust, identity) = (at("trust/release.asc"), at("enclave.key"));
    let mut flags = sealift_import(&elsewhere);
    flags.current_dir(&elsewhere).arg("verify").arg(&second);
    flags.args(["--trust", &trust, "--identity", &identity, "--to", site.production.host()]);
    let verified = run(&mut flags).expect_code(0);
    assert!(verified.stdout.contains("good     expiry"), "{verified}");
    assert!(!verified.stdout.contains("sequence") && !verified.stdout.contains("base"), "{verified}");
}

/// A large SBOM, which is not needed for admission, has not changed.
#[test]
fn what_is_attached_to_an_image_is_left_to_the_base_too() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let digest = site.list_layers("1", &[&noise(1, 1000)]);
    let mut layout = Layout::new();
    let name = "registry.dev.example/payments/large:sbom";
    let sbom = layout.image(&[&noise(7, 6 * BIG)]);
    layout.name(name, &sbom);
    site.origin.load_layout(layout.path(), name, "payments/large", &format!("sha256-{}.sbom", digest.hex()));
    let first = packed(&site, 1, &[]);
    receive(&site, &[&first], &[]).expect_code(0);
    let second = packed(&site, 2, &["--base", "payments-1"]);
    assert!(bytes(&first) > 6 * BIG as u64 && bytes(&second) < 50_000, "{} {}", bytes(&first), bytes(&second));
    let layer = shared(&site, &second);
    receive(&site, &[&second], &["--dry-run"]).expect_code(0);
    site.production.lose_blob(&layer);
    let ran = receive(&site, &[&second], &[]).expect_code(3);
    assert!(ran.stderr.contains("production lacks"), "{ran}");
    let content = Opened::open(&first, 1, &site.identity).content(&layer.layout_path()).to_vec();
    site.production.put_blob("payments/large", &layer, &content);
    receive(&site, &[&second], &[]).expect_code(0);
}
