//! Proofs: what a ledger says of an image, checked without the ledger.

mod common;

use common::*;
use ledger::{
    About, Act, Entry, EntryNumber, Error, Head, HeadStatement, Ledger, Proof, ProofEntry, ProofError, ProofType, Rule,
};
use manifest_schema::OutsideText;

fn prove(ledger: &Ledger, about: About, limit: u32) -> Result<Proof, Error> {
    ledger.prove(about, limit, &Keys)
}

fn head(proof: &Proof) -> Head {
    let line = proof.head.raw().lines().next().expect("a line");
    HeadStatement::parse(line.as_bytes()).expect("a head").head
}

fn kinds(proof: &Proof) -> Vec<&'static str> {
    let included = proof.included(&head(proof)).expect("all of it is in the tree");
    included.iter().map(|i| i.entry().act.kind()).collect()
}

/// A bundle with everything that can lead to production, among others.
fn filled() -> Place {
    let place = place();
    let mut ledger = place.open();
    let s = |n| subject("payments", n);
    import(&mut ledger, "payments", 1, 10);
    let _ = ledger.begin(&stamp(20), begun(&s(2))).expect("begun");
    ledger.received(&stamp(21), received(&s(2))).expect("received");
    ledger.approved(&stamp(22), approved(&s(2), 'B')).expect("approved");
    ledger.approved(&stamp(23), approved(&s(2), 'C')).expect("approved");
    ledger.approval_withdrawn(&stamp(24), approval_withdrawn(&s(2), 'C')).expect("withdrawn");
    ledger.refused(&stamp(25), refused(&s(2))).expect("refused");
    ledger.override_rules(&stamp(26), overridden(&s(2), &[Rule::Approvals])).expect("overridden");
    ledger.signing(&stamp(27), signing(&s(2))).expect("announced");
    ledger.record(&stamp(28), recorded(&s(2))).expect("recorded");
    import(&mut ledger, "api", 1, 30);
    ledger.withdrawn(&stamp(40), withdrawn(&s(2))).expect("withdrawn");
    import(&mut ledger, "api", 2, 50);
    place
}

#[test]
fn a_proof_has_what_led_to_the_image_and_what_became_of_it() {
    let place = filled();
    let ledger = place.read();
    let all = [
        "begun",
        "received",
        "approved",
        "approved",
        "approval-withdrawn",
        "overridden",
        "signing",
        "recorded",
        "withdrawn",
    ];
    for what in ["index payments 2", "amd64 payments 2"] {
        let proof = prove(&ledger, About::Digest(digest(what)), 10).expect("a proof");
        assert_eq!(kinds(&proof), all, "{what}");
        assert_eq!(Proof::parse(&proof.to_bytes().expect("bytes")).as_ref(), Ok(&proof));
    }
    let one = prove(&ledger, About::Digest(digest("index api 1")), 10).expect("a proof");
    assert_eq!(kinds(&one), ["begun", "signing", "recorded"]);
    // Any entry: with what led to it, if it is of a bundle.
    let created = prove(&ledger, About::Entry(EntryNumber::FIRST), 10).expect("a proof");
    assert_eq!(kinds(&created), ["created"]);
    let refused = ledger.entries(EntryNumber::FIRST).map(|e| e.expect("read").entry);
    let refused = refused.into_iter().find(|e| matches!(e.act, Act::Refused(_))).expect("a refusal").number;
    let refused = prove(&ledger, About::Entry(refused), 10).expect("a proof");
    let mut expected = all[..7].to_vec();
    expected.insert(5, "refused");
    assert_eq!(kinds(&refused), expected);

    let unknown = digest("nothing");
    let no_image = prove(&ledger, About::Digest(unknown), 10);
    assert!(matches!(no_image, Err(Error::NoSuchImage(d)) if *d == unknown));
    let past = EntryNumber::try_from(99).expect("a number");
    assert!(matches!(prove(&ledger, About::Entry(past), 10), Err(Error::NoSuchEntry(n)) if n == past));
}

#[test]
fn what_was_said_of_another_bundle_with_the_same_id_did_not_lead_to_it() {
    let place = place();
    let mut ledger = place.open();
    let other = ledger::Subject { manifest: digest("another manifest"), ..subject("payments", 1) };
    ledger.override_rules(&stamp(5), overridden(&other, &[Rule::Approvals])).expect("overridden");
    import(&mut ledger, "payments", 1, 10);
    let proof = prove(&ledger, About::Digest(digest("index payments 1")), 10).expect("a proof");
    assert_eq!(kinds(&proof), ["begun", "signing", "recorded"]);
}

#[test]
fn of_an_image_that_came_several_times_the_newest_count() {
    let place = place();
    let mut ledger = place.open();
    let mut entries = Vec::new();
    for n in 1..=5 {
        let s = subject("payments", n);
        let mut record = recorded(&s);
        record.images[0].digest = digest("the same");
        record.signatures.clear();
        let _ = ledger.begin(&stamp(10), begun(&s)).expect("begun");
        ledger.signing(&stamp(10), signing(&s)).expect("announced");
        entries.push(ledger.record(&stamp(10), record).expect("recorded"));
    }
    for limit in 1..=5 {
        let proof = prove(&ledger, About::Digest(digest("the same")), limit).expect("a proof");
        let included = proof.included(&head(&proof)).expect("included");
        let recorded: Vec<_> =
            included.iter().filter(|i| i.entry().act.kind() == "recorded").map(|i| i.entry().number).collect();
        assert_eq!(recorded, entries[5 - limit as usize..]);
        assert_eq!(included.len(), 3 * limit as usize);
    }
}

/// One change, and what must be said of it.
#[test]
fn a_proof_that_was_changed_proves_nothing() {
    let place = filled();
    let ledger = place.read();
    let honest = prove(&ledger, About::Digest(digest("index payments 2")), 10).expect("a proof");
    let other = {
        let place = filled();
        let ledger = place.read();
        prove(&ledger, About::Digest(digest("index payments 2")), 10).expect("a proof")
    };
    let head = head(&honest);
    let number = |i: usize| honest.entries[i].number;
    type Change<'a> = Box<dyn Fn(&mut Proof) + 'a>;
    let change = |from: &str, to: &str| {
        let (from, to) = (from.to_string(), to.to_string());
        move |proof: &mut Proof| {
            let text = proof.entries[3].entry.raw();
            assert!(text.contains(&from), "{text}");
            proof.entries[3].entry = OutsideText::whole(text.replacen(&from, &to, 1));
        }
    };
    let letter = |c: char| ledger_key(c).to_string();
    let cases: Vec<(&str, Change<'_>, ProofError)> = vec![
        (
            "a byte of an entry",
            Box::new(change(&letter('C'), &letter('D'))),
            ProofError::NotIncluded { number: number(3) },
        ),
        ("a space in it", Box::new(change(",", ", ")), ProofError::NotIncluded { number: number(3) }),
        (
            "another's path",
            Box::new(|p| p.entries[2].path = p.entries[3].path.clone()),
            ProofError::NotIncluded { number: number(2) },
        ),
        (
            "a path that is cut",
            Box::new(|p| p.entries[0].path.truncate(2)),
            ProofError::NotIncluded { number: number(0) },
        ),
        (
            "another number",
            Box::new(|p| p.entries[7].number = EntryNumber::try_from(14).expect("a number")),
            ProofError::NotIncluded { number: EntryNumber::try_from(14).expect("a number") },
        ),
        (
            "an entry of another ledger",
            Box::new(|p| p.entries[1].entry = other.entries[1].entry.clone()),
            ProofError::NotIncluded { number: number(1) },
        ),
        (
            "twice the same",
            Box::new(|p| p.entries.insert(1, p.entries[0].clone())),
            ProofError::Order { number: number(0), before: number(0) },
        ),
        (
            "out of order",
            Box::new(|p| p.entries.swap(0, 1)),
            ProofError::Order { number: number(0), before: number(1) },
        ),
    ];
    assert!(honest.included(&head).is_ok());
    for (what, change, expected) in cases {
        let mut proof = honest.clone();
        change(&mut proof);
        assert!(proof != honest, "{what}");
        assert_eq!(proof.included(&head).err(), Some(expected), "{what}");
    }
    // The head of another ledger, or of another moment.
    assert!(matches!(honest.included(&self::head(&other)), Err(ProofError::NotIncluded { .. })));
    drop(ledger);
    import(&mut place.open(), "api", 3, 60);
    let later = place.read().head().expect("a head");
    assert!(matches!(honest.included(&later), Err(ProofError::NotIncluded { .. })));
}

/// Whoever has a ledger key can sign the root of any tree. What is in it must still be an entry, in its place, of that ledger.
#[test]
fn what_is_in_a_tree_must_be_an_entry_of_that_ledger_in_its_place() {
    let (place, other) = (place(), place());
    import(&mut place.open(), "payments", 1, 10);
    let stored = |place: &Place, number: u64| {
        place.read().entry(EntryNumber::try_from(number).expect("a number")).expect("read").expect("an entry")
    };
    // A tree of one leaf, whose root is that leaf.
    let one = |bytes: &[u8]| {
        let number = EntryNumber::FIRST;
        let entry = OutsideText::whole(String::from_utf8(bytes.to_vec()).expect("text"));
        let (text, about) = (OutsideText::whole(""), About::Entry(number));
        let entries = vec![ProofEntry { number, path: vec![], entry }];
        let proof = Proof { kind: ProofType::V1, about, head: text.clone(), certificate: text, entries };
        let (hash, root) = (ledger::entry_hash(bytes), ledger::leaf(bytes));
        proof.included(&Head { ledger: place.id, number, hash, root, time: stamp(0).now })
    };
    let first = stored(&place, 1);
    assert_eq!(one(&first.bytes).map(|i| i.len()), Ok(1));
    let foreign = one(&stored(&other, 1).bytes);
    let expected = ProofError::OtherLedger { number: EntryNumber::FIRST, expected: place.id, found: other.id };
    assert_eq!(foreign, Err(expected));
    let misplaced = one(&stored(&place, 2).bytes);
    assert!(matches!(misplaced, Err(ProofError::OtherNumber { found, .. }) if found.get() == 2), "{misplaced:?}");
    let pretty = serde_json::to_vec_pretty(&first.entry).expect("JSON");
    assert!(matches!(one(&pretty), Err(ProofError::Unreadable { .. })));
    let again: Entry = serde_json::from_slice(&pretty).expect("the same entry");
    assert_eq!(again, first.entry);
}

#[test]
fn only_one_byte_string_is_a_proof() {
    let place = filled();
    let proof = prove(&place.read(), About::Digest(digest("index payments 1")), 1).expect("a proof");
    let good = String::from_utf8(proof.to_bytes().expect("bytes")).expect("text");
    assert!(good.starts_with(Proof::BEGINNING) && good.ends_with("}\n"));
    for (what, bad) in [
        ("trailing", format!("{good}\n")),
        ("no line end", good.trim_end().to_string()),
        ("space", good.replacen(",", ", ", 1)),
        ("unknown member", good.replacen("\"head\"", "\"note\":1,\"head\"", 1)),
        ("repeated member", good.replacen("\"about\"", "\"about\":{\"entry\":1},\"about\"", 1)),
        ("other type", good.replacen("ledger-proof/1", "ledger-proof/2", 1)),
        ("other order", good.replacen("\"type\":\"sealift/ledger-proof/1\",", "", 1)),
        ("two abouts", good.replacen("\"about\":{", "\"about\":{\"entry\":1,", 1)),
        ("escape", good.replacen("sealift-import", "sealift\\u002dimport", 1)),
        ("empty", String::new()),
    ] {
        assert_ne!(bad, good, "{what}");
        assert!(Proof::parse(bad.as_bytes()).is_err(), "{what}");
    }
    let kind = "\"type\":\"sealift/ledger-proof/1\",";
    let last = good.replacen(kind, "", 1).replace("}\n", &format!(",{}}}\n", kind.trim_end_matches(',')));
    let expected = ProofError::Json(OutsideText::new("the first member is not `type`"));
    assert_eq!(Proof::parse(last.as_bytes()), Err(expected));
}

#[test]
fn a_ledger_that_is_not_right_proves_nothing() {
    let place = filled();
    let about = About::Digest(digest("index payments 1"));
    let raw = place.raw();
    raw.execute_batch("DROP TRIGGER node_delete; DELETE FROM node WHERE entry = 8 AND n = 2").expect("deleted");
    assert!(matches!(prove(&place.read(), about, 1), Err(Error::Tampered { .. })));
    let place = filled();
    place.raw().execute("DELETE FROM head", []).expect("deleted");
    assert!(matches!(prove(&place.read(), about, 1), Err(Error::Tampered { .. })));
    // Without a key there is nothing that somebody else could check.
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ledger.db");
    Ledger::create(&path, &stamp(0), ledger::Created::default(), None).expect("a ledger");
    let unsigned = Ledger::open_read_only(&path, None).expect("opens");
    assert!(matches!(prove(&unsigned, About::Entry(EntryNumber::FIRST), 1), Err(Error::NotSigned(_))));
}
