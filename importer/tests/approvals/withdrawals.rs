//! Approvals that are taken back.

use super::*;
use common::acts;
use testkit::{need, run_ok};

impl Enclave {
    /// An approver's honest approval, made elsewhere.
    fn made(&self, by: &Key, name: &str) -> PathBuf {
        Statement::signed(&self.document(), by).to(&self.site, name)
    }

    /// A withdrawal of any statement, as a document that a test may change.
    fn withdrawal(&self, of: &Path) -> Value {
        json!({
            "type": "sealift/approval-withdrawal/1", "ledger": self.site.import["ledger"]["id"],
            "bundle": self.subject.bundle, "approval": Statement(fs::read(of).unwrap()).digest(), "made": Timestamp::now(),
        })
    }
}

#[test]
fn an_approver_takes_an_approval_back_for_ever() {
    if !need(Site::NEEDS) {
        return;
    }
    let e = Enclave::new(2);
    let ben = e.made(&e.ben, "ben");
    e.approve(&["payments-42", "--sign-key", key(&e.ada), "--for", "1d"]).expect_code(0);
    e.approve(&["payments-42", "--sign-key", key(&e.ada), "--for", "2d"]).expect_code(0);
    e.approve(&["--add", path(&ben)]).expect_code(0);
    assert_eq!(e.counted().unwrap().statements().len(), 2);

    // Here: every approval of that key, and nobody else's.
    let withdrawn = e.approve(&["payments-42", "--withdraw", "--sign-key", key(&e.ada), "--reason", "a bug"]);
    let withdrawn = withdrawn.expect_code(0);
    assert_eq!(withdrawn.stdout.matches("withdrawn: approval sha256:").count(), 2, "{withdrawn}");
    assert!(withdrawn.stdout.contains("2 of 3 needed, 1 counts"), "{withdrawn}");
    let refused = e.counted().unwrap_err().to_string();
    assert_eq!(refused.matches("it was withdrawn, in ledger entry").count(), 2, "{refused}");
    e.approve(&["payments-42", "--withdraw", "--sign-key", key(&e.ada)])
        .expect_code(2)
        .expect_stderr("there is no approval of");
    // A new one counts.
    e.approve(&["payments-42", "--sign-key", key(&e.ada), "--for", "1d"]).expect_code(0);
    assert_eq!(e.counted().unwrap().statements().len(), 2);

    // Elsewhere.
    let statement = e.site.scratch("stick").join("ben.withdrawal");
    let args = ["--withdraw-statement", path(&ben), "--output", path(&statement), "--sign-key"];
    e.elsewhere(&[&args[..], &[key(&e.ada)]].concat()).expect_code(3).expect_stderr("it is no approval that key");
    assert!(!statement.exists());
    e.elsewhere(&[&args[..], &[key(&e.ben)]].concat()).expect_code(0);
    let added = e.approve(&["--add", path(&statement)]).expect_code(0);
    assert!(added.stdout.contains(&format!("withdrawal of payments-42 by {}", e.ben.fingerprint)), "{added}");
    assert!(e.counted().is_err());
    e.approve(&["--add", path(&ben)]).expect_code(3).expect_stderr("it was withdrawn");
    let before = acts(&e.site).len();
    e.approve(&["--add", path(&statement)]).expect_code(0);
    assert_eq!(acts(&e.site).len(), before, "once is enough");
    run_ok(&mut e.site.import(&["ledger", "verify"]));
}

#[test]
fn a_withdrawal_that_comes_first_kills_its_approval() {
    if !need(Site::NEEDS) {
        return;
    }
    let e = Enclave::new(1);
    let approval = e.made(&e.ada, "ada");
    let withdrawal = Statement::signed(&e.withdrawal(&approval), &e.ada).to(&e.site, "ada.withdrawal");
    e.approve(&["--add", path(&withdrawal)]).expect_code(0);
    e.approve(&["--add", path(&approval)]).expect_code(3).expect_stderr("it was withdrawn, in ledger entry");
    assert!(e.counted().is_err());
    assert_eq!(acts(&e.site), ["created", "begun", "received", "approval-withdrawn"]);
    // Both at once, in the order in which it would count.
    let approval = Statement::signed(&e.document(), &e.ben).to(&e.site, "ben");
    let withdrawal = Statement::signed(&e.withdrawal(&approval), &e.ben).to(&e.site, "ben.withdrawal");
    e.approve(&["--add", path(&approval), path(&withdrawal)]).expect_code(0);
    assert!(e.counted().is_err());
}

#[test]
fn nobody_takes_back_what_somebody_else_approved() {
    if !need(Site::NEEDS) {
        return;
    }
    let e = Enclave::new(1);
    let approval = e.made(&e.ada, "ada");
    // Ben has seen it on its way.
    let first = Statement::signed(&e.withdrawal(&approval), &e.ben).to(&e.site, "first");
    e.approve(&["--add", path(&first)]).expect_code(0);
    e.approve(&["--add", path(&approval)]).expect_code(0);
    assert_eq!(e.counted().unwrap().statements().len(), 1);
    let second = Statement::signed(&e.withdrawal(&approval), &e.cleo).to(&e.site, "second");
    e.approve(&["--add", path(&second)]).expect_code(3).expect_stderr("cannot be taken back by");
    e.approve(&["payments-42", "--withdraw", "--sign-key", key(&e.ben)]).expect_code(2);
    // Nor does the same document, signed by another.
    let copied = Statement::of(Statement(fs::read(&approval).unwrap()).line(), &e.cleo).to(&e.site, "copied");
    e.approve(&["--add", path(&copied)]).expect_code(3).expect_stderr("is recorded as one of");
    assert_eq!(e.counted().unwrap().statements().len(), 1);
    // Its approver can, although Ben has tried.
    e.approve(&["payments-42", "--withdraw", "--sign-key", key(&e.ada)]).expect_code(0);
    assert!(e.counted().is_err());
}

#[test]
fn a_withdrawal_is_read_as_strictly_as_an_approval() {
    if !need(Site::NEEDS) {
        return;
    }
    let e = Enclave::new(1);
    let approval = e.made(&e.ada, "ada");
    e.approve(&["--add", path(&approval)]).expect_code(0);
    let other = let_wait(&e.site, 43);
    let honest = e.withdrawal(&approval);
    let changed = |member: &str, value: Value| {
        let mut document = honest.clone();
        document[member] = value;
        Statement::signed(&document, &e.ada)
    };
    let mut forged = Statement::signed(&honest, &e.ada);
    let at = forged.0.windows(8).position(|w| w == b"\"made\":\"").unwrap() + 9;
    forged.0[at] ^= 1;
    let stranger = Key::new(&e.site.scratch("people"), "stranger");
    for (name, statement, says) in [
        ("ledger", changed("ledger", json!("7f3c2b1a-0000-4000-8000-000000000001")), "it is for ledger"),
        ("bundle", changed("bundle", json!(BundleId::generate())), "the ledger knows no bundle"),
        ("another bundle", changed("bundle", json!(other.bundle)), "which is of bundle"),
        ("member", changed("more", json!(1)), "not the withdrawal of an approval"),
        ("type", changed("type", json!("sealift/approval-withdrawal/2")), "not the withdrawal of an approval"),
        ("byte", forged, "bad signature"),
        ("stranger", Statement::signed(&honest, &stranger), "unknown key"),
    ] {
        let file = statement.to(&e.site, "changed");
        let ran = e.approve(&["--add", path(&file)]);
        assert!(ran.code != Some(0) && ran.stderr.contains(says), "{name}\n{ran}");
        assert_eq!(e.counted().unwrap().statements().len(), 1, "{name}");
    }
}
