//! Who must approve, who may promote, and what lets a bundle pass without.

use super::*;
use importer::approvals::{Grounds, Promoter, PromoterArgs, PromoterKey};
use ledger::{Overridden, Rule};
use manifest_schema::{OneLine, Promotion};
use testkit::{need, run};

#[test]
fn without_approvers_none_are_required() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut e = Enclave::new(3);
    assert!(e.counted().is_err());
    e.site.import.as_object_mut().unwrap().remove("approvers");
    let approvals = e.counted().unwrap();
    assert_eq!((approvals.grounds(), approvals.statements()), (&Grounds::NoneRequired, vec![]));
    let shown = e.approve(&["payments-42"]).expect_code(0);
    assert!(shown.stdout.contains("none needed"), "{shown}");
    for args in [
        &["payments-42", "--sign-key", key(&e.ada), "--for", "1h"][..],
        &["payments-42", "--withdraw", "--sign-key", key(&e.ada)],
        &["--add", "/nowhere"],
    ] {
        e.approve(args).expect_code(2).expect_stderr("a list of approvers is missing");
    }
}

#[test]
fn an_override_is_of_this_bundle_and_this_rule() {
    if !need(Site::NEEDS) {
        return;
    }
    let e = Enclave::new(1);
    let allow = |subject: &Subject, rule| {
        let overridden =
            Overridden { subject: subject.clone(), rules: vec![rule], reason: OutsideText::new("an outage") };
        e.site.open_ledger().override_rules(&stamp(), overridden).unwrap()
    };
    allow(&let_wait(&e.site, 43), Rule::Approvals);
    allow(&e.subject, Rule::Expired);
    allow(&Subject { manifest: blobs::sha256(b"another"), ..e.subject.clone() }, Rule::Approvals);
    assert!(matches!(e.counted(), Err(Error::NotApproved(_))));
    let entry = allow(&e.subject, Rule::Approvals);
    let approvals = e.counted().unwrap();
    assert_eq!((approvals.grounds(), approvals.statements()), (&Grounds::Overridden(entry), vec![]));
    assert_eq!(e.standing()["overridden"], json!(entry));
    let shown = e.approve(&["payments-42"]).expect_code(0);
    assert!(shown.stdout.contains(&format!("overridden by ledger entry {entry}")), "{shown}");
    // Where it is not needed, it is not what counts.
    e.approve(&["payments-42", "--sign-key", key(&e.ada), "--for", "1h"]).expect_code(0);
    assert!(matches!(e.counted().unwrap().grounds(), Grounds::Approved(statements) if statements.len() == 1));
}

impl Enclave {
    /// States who promotes.
    fn promoter(&self, key: Option<&Key>) -> Result<Option<Promoter>, Error> {
        let site = resolve(&self.site)?;
        let ledger = site.read_ledger()?.unwrap();
        let args = PromoterArgs { promoter_key: key.map(|k| k.secret_file.clone()), ..PromoterArgs::default() };
        let key = PromoterKey::unlock(&site, &args)?;
        key.map(|key| key.states(&ledger, &self.subject, &self.wanted())).transpose()
    }
}

#[test]
fn who_promotes_does_not_approve() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut e = Enclave::new(2);
    for approver in [&e.ada, &e.ben] {
        e.approve(&["payments-42", "--sign-key", key(approver), "--for", "1h"]).expect_code(0);
    }
    // As long as nobody says so, it does not matter who promotes.
    assert!(e.promoter(None).unwrap().is_none());
    assert_eq!(e.counted_for(Some(&e.ada)).unwrap().statements().len(), 2);

    e.site.import["approvers"]["exclude_promoter"] = json!(true);
    let shown = e.approve(&["payments-42"]).expect_code(0);
    assert!(shown.stdout.contains("an approval by whoever promotes will not count"), "{shown}");
    assert!(matches!(e.promoter(None), Err(Error::Missing(_))));
    assert!(matches!(e.counted(), Err(Error::Missing(_))), "it must be known who promotes");
    let refused = e.counted_for(Some(&e.ada)).unwrap_err().to_string();
    assert!(refused.contains("2 of 3 needed, 1 counts"), "{refused}");
    assert!(refused.contains("its approver is the one who promotes"), "{refused}");
    assert_eq!(e.counted_for(Some(&e.cleo)).unwrap().statements().len(), 2);

    // Whoever promotes signs that he does.
    let promoter = e.promoter(Some(&e.cleo)).unwrap().unwrap();
    assert_eq!(promoter.fingerprint().to_string(), e.cleo.fingerprint);
    let ledger::PromotedBy { promoter, file } = promoter.into_entry();
    assert_eq!(promoter.as_str(), e.cleo.fingerprint);
    let line = file.raw().lines().next().unwrap();
    let promotion = Promotion::parse(line.as_bytes()).unwrap();
    assert_eq!(
        (promotion.bundle, promotion.manifest, promotion.images.len()),
        (e.subject.bundle, e.subject.manifest, 2)
    );
    // His statement is no approval.
    let file = Statement(file.raw().as_bytes().to_vec()).to(&e.site, "promotion");
    e.approve(&["--add", path(&file)]).expect_code(3).expect_stderr("not an approval");

    let dora = Key::new(&e.site.scratch("people"), "dora");
    assert!(matches!(e.promoter(Some(&dora)), Err(Error::UnknownPromoter { .. })));
    e.site.import["approvers"]["promoters"] = json!([dora.certificate_file]);
    assert_eq!(e.promoter(Some(&dora)).unwrap().unwrap().fingerprint().to_string(), dora.fingerprint);
    assert_eq!(e.counted_for(Some(&dora)).unwrap().statements().len(), 2);
    // A promoter is no approver.
    e.approve(&["payments-42", "--sign-key", key(&dora), "--for", "1h"]).expect_code(3).expect_stderr("unknown key");
    // By the certificate that is configured, not by the one in the key's file.
    dora.revoke();
    assert!(matches!(e.promoter(Some(&dora)), Err(Error::PromoterRejected { .. })));
    e.cleo.revoke();
    assert!(matches!(e.promoter(Some(&e.cleo)), Err(Error::PromoterRejected { .. })));
    e.site.import.as_object_mut().unwrap().remove("approvers");
    assert!(matches!(e.promoter(Some(&e.ada)), Err(Error::Missing(_))));
    assert!(e.promoter(None).unwrap().is_none());
}

#[test]
fn a_bundle_is_promoted_by_somebody_who_has_not_approved_it() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let people = site.scratch("people");
    let [ada, ben, dora] = ["ada", "ben", "dora"].map(|name| Key::new(&people, name));
    site.import["approvers"] = json!({
        "certificates": [ada.certificate_file, ben.certificate_file], "threshold": 2,
        "exclude_promoter": true, "promoters": [dora.certificate_file],
    });
    let bundle = site.packed(42);
    site.receive(&bundle, &[]).expect_code(0);
    let promote = |args: &[&str]| run(site.import(&["promote", "payments-42"]).args(args));
    for approver in [&ada, &ben] {
        let refused = promote(&["--promoter-key", key(&dora)]).expect_code(3);
        assert!(refused.stderr.contains("payments-42 is not approved: 2 of 2 needed"), "{refused}");
        run(&mut site.import(&["approve", "payments-42", "--sign-key", key(approver), "--for", "1h"])).expect_code(0);
    }
    promote(&[]).expect_code(2).expect_stderr("the key of whoever promotes is missing");
    promote(&["--promoter-key", key(&ada)]).expect_code(3).expect_stderr("its approver is the one who promotes");
    assert!(site.production.tags().is_empty() && common::signatures(&site).is_empty());
    promote(&["--promoter-key", key(&dora)]).expect_code(0);
    assert_eq!(site.production.tags().len(), 1);

    let last = common::ledger(&site).entries(EntryNumber::FIRST).last().unwrap().unwrap().entry.act;
    let ledger::Act::Recorded(recorded) = last else { panic!("{last:?}") };
    assert_eq!(recorded.approvals.len(), 2);
    let ledger::PromotedBy { promoter, file } = recorded.promoter.unwrap();
    assert_eq!(promoter.as_str(), dora.fingerprint);
    let shown = run(&mut site.import(&["ledger", "show", "payments-42"])).expect_code(0).stdout;
    assert!(shown.contains(&format!("promoted by {promoter}, who has signed for it")), "{shown}");
    let dora = signing::Certificates::load(&[dora.certificate_file]).unwrap();
    let trust = signing::Trust::new(dora, 1, Timestamp::now()).unwrap();
    let stated = trust.verify_statement(file.raw().as_bytes(), 1 << 20).unwrap();
    let promotion = Promotion::parse(stated.get()).unwrap();
    assert_eq!((promotion.bundle, promotion.images.len()), (recorded.subject.bundle, 1));
}

#[test]
fn rules_that_cannot_be_kept_are_refused() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut e = Enclave::new(2);
    let honest = e.site.import.clone();
    for (member, value, says) in [
        ("threshold", json!(0), "a threshold of 0 does not fit 3 certificates"),
        ("threshold", json!(4), "a threshold of 4 does not fit 3 certificates"),
        ("certificates", json!([]), "no certificates were given"),
        ("certificates", json!(["nowhere.asc"]), "nowhere.asc"),
        ("greatest_validity", json!("30"), "not a span of time"),
        ("greatest_validity", json!("0d"), "not a span of time"),
        ("promoters", json!([e.ada.secret_file]), "secret key"),
        ("approvers", json!([]), "approvers"),
    ] {
        e.site.import["approvers"][member] = value;
        e.approve(&["payments-42"]).expect_code(2).expect_stderr(says);
        e.site.import = honest.clone();
    }
    // All three, of whom one promotes.
    e.site.import["approvers"]["exclude_promoter"] = json!(true);
    e.approve(&["payments-42"]).expect_code(0);
    e.site.import["approvers"]["threshold"] = json!(3);
    e.approve(&["payments-42"]).expect_code(2).expect_stderr("all 3 must approve");
    let dora = Key::new(&e.site.scratch("people"), "dora");
    e.site.import["approvers"]["promoters"] = json!([dora.certificate_file]);
    e.approve(&["payments-42"]).expect_code(0);
}

#[test]
fn an_approvers_key_has_no_other_role() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut e = Enclave::new(1);
    let honest = e.site.import.clone();
    let [release, ledger, production] =
        [&e.site.release_key, &e.site.ledger_key, &e.site.production_key].map(|key| key.certificate_file.clone());
    for role in ["certificates", "promoters"] {
        let with = |e: &mut Enclave, file: &Path| {
            e.site.import = honest.clone();
            let file = json!(file);
            match e.site.import["approvers"][role].as_array_mut() {
                Some(files) => files.push(file),
                None => e.site.import["approvers"][role] = json!([file]),
            }
        };
        let refused = |e: &Enclave| {
            let ran = e.approve(&["payments-42"]).expect_code(2);
            assert!(ran.stderr.contains("is configured for two roles"), "{role}: {ran}");
        };
        with(&mut e, &release);
        refused(&e);
        with(&mut e, &ledger);
        refused(&e);
        e.approve(&["--add", "/nowhere"]).expect_code(2).expect_stderr("ledger and");

        let dora = Key::new(&e.site.scratch("people"), "dora");
        with(&mut e, &dora.certificate_file);
        e.approve(&["payments-42"]).expect_code(0);
        e.site.import["couriers"] = json!([dora.certificate_file]);
        refused(&e);
        with(&mut e, &dora.certificate_file);
        let policy = e.site.import_dir().join("trust/policy.json");
        let signed = json!({ "type": "signedBy", "keyType": "GPGKeys", "keyPath": dora.certificate_file });
        fs::write(&policy, json!({ "default": [signed] }).to_string()).unwrap();
        e.site.import["streams"]["payments"]["images"] = json!("trust/policy.json");
        refused(&e);

        with(&mut e, &production);
        let error = resolve(&e.site)
            .unwrap()
            .production(&common::ledger(&e.site))
            .err()
            .map(|e| e.to_string())
            .unwrap_or_default();
        assert!(error.contains("is configured for two roles, production and"), "{role}: {error}");
    }
    e.site.import = honest;
    resolve(&e.site).unwrap().production(&common::ledger(&e.site)).map(|_| ()).unwrap();
}

#[test]
fn a_site_without_a_configuration_says_the_same_with_flags() {
    if !need(Site::NEEDS) {
        return;
    }
    let e = Enclave::new(1);
    let dir = e.site.import_dir();
    let at = |name: &str| dir.join(name).display().to_string();
    let elsewhere = e.site.scratch("flags");
    let approve = |args: &[&str]| {
        let mut command = sealift_import(&elsewhere);
        command.current_dir(&elsewhere).args(["approve", "payments-42", "--json"]);
        command.args(["--trust", &at("trust/release.asc"), "--ledger", &at("ledger.db")]).args(args);
        run(&mut command)
    };
    assert_eq!(approve(&[]).expect_code(0).json()["needed"], 0);
    let approver = ["--approver", path(&e.ada.certificate_file), "--approver", path(&e.ben.certificate_file)];
    let with = |args: &[&str]| approve(&[&approver[..], args].concat());
    assert_eq!(with(&[]).expect_code(0).json()["needed"], 1);
    assert_eq!(with(&["--approver-threshold", "2"]).expect_code(0).json()["needed"], 2);
    with(&["--approver-threshold", "3"]).expect_code(2);
    with(&["--approver-threshold", "2", "--exclude-promoter"]).expect_code(2).expect_stderr("all 2 must approve");
    let promoter = ["--approver-threshold", "2", "--exclude-promoter", "--promoter", path(&e.cleo.certificate_file)];
    assert_eq!(with(&promoter).expect_code(0).json()["exclude_promoter"], true);
    let sign = ["--sign-key", key(&e.ada), "--for", "2h", "--ledger-key", &at("ledger.secret.asc")];
    with(&[&sign[..], &["--greatest-validity", "1h"]].concat()).expect_code(3).expect_stderr("at most 1h");
    assert_eq!(with(&sign).expect_code(0).json()["standing"]["counts"], 1);
    approve(&["--exclude-promoter"]).expect_code(2);
    // A configuration is not made weaker by a flag.
    e.approve(&[&["payments-42"], &approver[..]].concat())
        .expect_code(2)
        .expect_stderr("--approver goes with --trust only");
}
