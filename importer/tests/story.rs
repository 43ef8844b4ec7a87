//! One release line at a site with everything: a QA cluster and a production cluster, each with its own policy; two stages; three
//! people of whom two must approve; an auditor with a certificate and nothing else.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use ledger::{Act, EntryNumber, Status};
use manifest_schema::Digest;
use serde_json::{Value, json};
use testkit::{Key, Node, Ran, Registry, Site, need, run};

/// What each side of the story needs.
const NEEDS: &[&str] = &["docker-registry", "skopeo", "podman"];

struct Story {
    site: Site,
    staging: Registry,
    people: Vec<Key>,
}

impl Story {
    fn new() -> Self {
        let (mut site, staging) = Site::staged();
        let people: Vec<_> = ["ada", "ben", "cyd"].map(|name| Key::new(&site.scratch("people"), name)).into();
        let trusted: Vec<_> = people.iter().map(|key| key.certificate_file.clone()).collect();
        site.import["approvers"] = json!({ "certificates": trusted, "threshold": 2 });
        // As `init` leaves it: the ledger key is certified by the production key.
        let mut certify = site.import(&["ledger", "certify"]);
        run(&mut certify).expect_code(0);
        let story = Self { site, staging, people };
        story.signed_at_origin()
    }

    /// Images are signed at their origin, and the stream's image policy asks for that.
    fn signed_at_origin(mut self) -> Self {
        let signer = Key::new(&self.site.scratch("signer"), "images");
        self.site.look_for_signatures();
        self.site.sign_at_origin(&signer);
        let docker = json!({ self.site.origin.host(): signer.signed_by() });
        self.site.judge_images("payments", &docker);
        self
    }

    fn import(&self, args: &[&str]) -> Ran {
        run(&mut self.site.import(args))
    }

    fn status(&self, sequence: u64) -> Option<Status> {
        let stream = "payments".parse().unwrap();
        common::ledger(&self.site).state_of(&stream, sequence.try_into().unwrap()).unwrap().map(|row| row.status)
    }

    fn approve(&self, bundle: &str, person: usize) -> Ran {
        let key = self.people[person].secret_file.to_str().unwrap();
        self.import(&["approve", bundle, "--sign-key", key, "--for", "1d"])
    }

    /// A node of the QA cluster.
    fn qa_pulls(&self) -> Ran {
        self.pulls("staging", &self.staging)
    }

    /// A node of the production cluster.
    fn production_pulls(&self) -> Ran {
        self.pulls("production", &self.site.production)
    }

    /// Pulls the image as podman and skopeo on a node would, with exactly what `handover` wrote.
    fn pulls(&self, cluster: &str, registry: &Registry) -> Ran {
        let node = self.site.scratch(&format!("{cluster}-node"));
        let folder = node.join("sealift");
        let keys = folder.join("keys");
        let args = ["handover", cluster, folder.to_str().unwrap(), "--key-dir", keys.to_str().unwrap()];
        self.import(&args).expect_code(0);
        Node::new(folder, node).pulls(&format!("{}/payments/api:2.3.1", registry.host()))
    }
}

#[test]
fn from_two_releases_to_an_auditor() {
    if !need(NEEDS) {
        return;
    }
    let story = Story::new();
    let first = story.site.packed(1);
    let second = story.site.packed(2);
    let third = story.site.packed(3);

    // The second release waits, is tried out, and is approved by two of three.
    story.site.receive(&second, &[]).expect_code(0);
    assert_eq!(story.status(2), Some(Status::Received));
    story.qa_pulls().expect_code(0);
    assert!(story.site.production.is_empty());
    story.approve("payments-2", 0).expect_code(0);
    story.import(&["promote", "payments-2"]).expect_code(3).expect_stderr("2 of 3 needed, 1 counts");
    story.production_pulls().expect_code(1);
    story.approve("payments-2", 2).expect_code(0);
    story.import(&["promote", "payments-2"]).expect_code(0);
    story.production_pulls().expect_code(0);
    let released = story.site.traces();

    // Replayed: nothing happens. Rolled back: refused. And a third one does not please.
    let replayed = story.site.receive(&second, &[]).expect_code(0);
    assert!(replayed.stdout.contains("already received: payments 2"), "{replayed}");
    assert_eq!(story.site.traces(), released);
    story.site.receive(&first, &[]).expect_code(3).expect_stderr("payments 1 is older than payments 2");
    story.site.receive(&third, &[]).expect_code(0);
    story.import(&["reject", "payments-3", "--reason", "CVE-2026-1"]).expect_code(0);
    for person in 0..3 {
        story.approve("payments-3", person).expect_code(3).expect_stderr("was rejected at");
    }
    story.import(&["promote", "payments-3"]).expect_code(3).expect_stderr("was rejected at");
    let after = story.site.traces();
    assert_eq!((&after.registry, &after.lookaside), (&released.registry, &released.lookaside));
    let acts: Vec<_> = entries(&story.site).iter().map(|act| act.kind()).collect();
    assert_eq!(
        acts,
        [
            "created",
            "begun",
            "received",
            "handed-over",
            "approved",
            "refused",
            "handed-over",
            "approved",
            "signing",
            "recorded",
            "handed-over",
            "refused",
            "begun",
            "received",
            "rejected",
            "refused"
        ]
    );

    // The auditor has the production certificate, the image's digest and a file.
    let image: Digest = *story.site.production.tags().values().next().unwrap();
    let office = story.site.scratch("auditor");
    let proof = office.join("proof.json");
    story.import(&["ledger", "prove", &image.to_string(), "-o", proof.to_str().unwrap()]).expect_code(0);
    fs::copy(&story.site.production_key.certificate_file, office.join("production.asc")).unwrap();
    let check = |file: &Path| {
        run(testkit::sealift_import(&office)
            .current_dir(&office)
            .args(["ledger", "check-proof", "--certificate", "production.asc", "--digest", &image.to_string()])
            .arg(file))
    };
    let told = check(&proof).expect_code(0).stdout;
    for said in [
        format!("{}/payments/api:2.3.1", story.site.production.host()),
        format!("{}/payments/api:2.3.1", story.site.origin.host()),
        story.site.release_key.fingerprint.clone(),
        story.people[0].fingerprint.clone(),
        story.people[2].fingerprint.clone(),
    ] {
        assert!(told.contains(&said), "the proof does not tell {said}\n{told}");
    }
    assert!(!told.contains(&story.people[1].fingerprint), "who did not approve is not in it\n{told}");
    let forged = office.join("forged.json");
    fs::write(&forged, fs::read_to_string(&proof).unwrap().replacen("payments/api", "payments/apl", 1)).unwrap();
    check(&forged).expect_code(3);

    // A byte changed anywhere is found, and the entry is named.
    story.import(&["ledger", "verify"]).expect_code(0);
    each_table_is_sealed(&story.site);
}

fn entries(site: &Site) -> Vec<Act> {
    common::ledger(site).entries(EntryNumber::FIRST).map(|entry| entry.unwrap().entry.act).collect()
}

/// Changes one byte in each table of the record, in turn, with the triggers dropped and put back.
fn each_table_is_sealed(site: &Site) {
    let file = site.import_dir().join("ledger.db");
    let saved = common::SavedLedger::of(site);
    let list = |sql: &str| -> Vec<String> {
        let raw = rusqlite::Connection::open(&file).unwrap();
        let mut statement = raw.prepare(sql).unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    // What is no part of the record may be changed by anyone; `head` is of the last entry.
    let tables = list(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT IN ('upload', 'kept', 'shown')
         AND name NOT LIKE 'sqlite%' ORDER BY name",
    );
    let mut changed = 0;
    for table in &tables {
        let columns = list(&format!("SELECT name FROM pragma_table_info('{table}') ORDER BY cid DESC"));
        let (last, key) = (
            &columns[0],
            if table == "entry" {
                "number"
            } else if table == "head" {
                "only"
            } else {
                "entry"
            },
        );
        let raw = rusqlite::Connection::open(&file).unwrap();
        let triggers: Vec<(String, String)> = {
            let mut all = raw.prepare("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").unwrap();
            all.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
        };
        triggers.iter().for_each(|(name, _)| raw.execute_batch(&format!("DROP TRIGGER {name}")).unwrap());
        raw.pragma_update(None, "foreign_keys", false).unwrap();
        let value = format!(
            "CASE typeof({last}) WHEN 'integer' THEN {last} + 1
                 WHEN 'blob' THEN CAST(substr({last}, 1, length({last}) - 1) || x'21' AS BLOB)
                 WHEN 'null' THEN 'x' ELSE substr({last}, 1, length({last}) - 1) || '!' END"
        );
        let row = format!("(SELECT max({key}) FROM {table})");
        let n = raw.execute(&format!("UPDATE {table} SET {last} = {value} WHERE {key} = {row}"), []).unwrap();
        triggers.iter().for_each(|(_, sql)| raw.execute_batch(sql).unwrap());
        drop(raw);
        let ran = run(&mut site.import(&["ledger", "verify"]));
        if n > 0 {
            changed += 1;
            ran.expect_code(1).expect_stderr("entry ");
        } else {
            ran.expect_code(0);
        }
        saved.put_back(site);
    }
    assert!(changed >= 14, "{changed} of {} tables have rows in this story", tables.len());
}

#[test]
fn what_a_qa_cluster_accepts_a_production_cluster_refuses_and_the_other_way_round() {
    if !need(NEEDS) {
        return;
    }
    let story = Story::new();
    let bundle: PathBuf = story.site.packed(1);
    story.site.receive(&bundle, &[]).expect_code(0);
    story.approve("payments-1", 0).expect_code(0);
    story.approve("payments-1", 1).expect_code(0);
    story.import(&["promote", "payments-1"]).expect_code(0);
    story.qa_pulls().expect_code(0);
    story.production_pulls().expect_code(0);
    // Each under the other's signatures.
    let (qa, production) = (story.site.import_dir().join("qa-sigstore"), story.site.lookaside());
    let swap = || {
        let between = story.site.scratch("between").join("tree");
        fs::rename(&qa, &between).unwrap();
        fs::rename(&production, &qa).unwrap();
        fs::rename(&between, &production).unwrap();
    };
    swap();
    story.qa_pulls().expect_code(1);
    story.production_pulls().expect_code(1);
    swap();
    let _: Value = story.import(&["ledger", "list", "--json"]).expect_code(0).json();
}
