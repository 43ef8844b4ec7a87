use super::*;
use crate::scale_tests::Filler;
use crate::{Begun, Checked, Checker, Created, Recorded, RecordedImage, Refused, Signing, Stamp, Vouched};

/// For a ledger without a key.
struct Nobody;

impl Checker for Nobody {
    fn check(&self, _: &[u8], _: &[u8]) -> Result<Checked, OutsideText> {
        Err(OutsideText::new("nobody signs"))
    }
}

/// A ledger of 20,001 entries, written in one transaction.
fn large() -> (tempfile::TempDir, Ledger) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ledger.db");
    let stamp = Stamp {
        now: Timestamp::from_unix(1_770_000_000).expect("a time"),
        tool: "sealift-import 0.1.0".parse().expect("a label"),
        by: None,
    };
    Ledger::create(&path, &stamp, Created::default(), None).expect("a ledger");
    let mut ledger = Ledger::open(&path, None, None).expect("opens");
    let mut filler = Filler::new(&mut ledger, stamp);
    for n in 1..=5000_u64 {
        let stream = if n % 2 == 0 { "even" } else { "odd" };
        let subject = Subject {
            bundle: BundleId::generate(),
            stream: stream.parse().expect("a stream"),
            sequence: Sequence::try_from(n).expect("a sequence"),
            manifest: blobs::sha256(&n.to_be_bytes()),
        };
        let image = RecordedImage {
            origin: format!("r.example/{stream}:{n}").parse().expect("a reference"),
            production: format!("p.example/{stream}:{n}").parse().expect("a tag"),
            digest: blobs::sha256(&(n / 10).to_be_bytes()),
            platforms: vec![],
            vouched: Vouched::Manifest,
            evidence: vec![],
            scan: None,
        };
        let recorded = Recorded {
            subject: subject.clone(),
            signers: vec![],
            images: vec![image],
            signatures: vec![],
            tags: vec![],
            no_policy: vec![],
            gate: None,
            handover: vec![],
            skipped: vec![],
            approvals: vec![],
            promoter: None,
        };
        for act in [
            Act::Begun(Begun { subject: subject.clone(), signed: None, newest_signed: None }),
            Act::Signing(Signing { subject: subject.clone(), production: None, images: vec![], tags: vec![] }),
            Act::Recorded(recorded),
            Act::Refused(Refused { subject: subject.clone(), reason: OutsideText::new("again") }),
        ] {
            filler.add(act);
        }
    }
    filler.commit();
    (folder, ledger)
}

/// The plan's lines, for the given number of parameters.
fn plan(ledger: &Ledger, sql: &str) -> Vec<String> {
    let mut statement = ledger.connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect(sql);
    let parameters = vec![rusqlite::types::Null; statement.parameter_count()];
    let rows = statement.query_map(rusqlite::params_from_iter(parameters), |r| r.get(3)).expect(sql);
    rows.collect::<rusqlite::Result<_>>().expect(sql)
}

const OWN: [&str; 4] = ["SCAN d", "SCAN s", "SCAN m", "SCAN CONSTANT ROW"];

#[test]
fn every_question_is_answered_from_an_index() {
    let (_folder, ledger) = large();
    for analysed in [false, true] {
        if analysed {
            ledger.connection.execute_batch("ANALYZE").expect("statistics");
        }
        for sql in [
            HEAD,
            ENTRY,
            ENTRIES_OF_BUNDLE,
            RECEIVED,
            REJECTED,
            PROMOTIONS,
            ALL_WITHDRAWN,
            RECORDED,
            APPROVAL,
            APPROVAL_WITHDRAWN,
            APPROVALS,
            OVERRIDES,
            ANNOUNCEMENTS,
            ALL_APPROVALS,
            NEWEST_SIGNED,
            WITHDRAWALS,
            IMAGES_BY_DIGEST,
            SIGNATURES_BY_DIGEST,
            SIGNATURES_IN,
            PLATFORMS_OF,
            MOVES_OF_TAG,
            tree::NODE,
            custody::HEAD,
            custody::KEY,
            custody::HAS,
            custody::ADOPTED,
            &newest_sql(),
            &marks_sql(),
            &format!("{KNOWN} WHERE b.id = ?1"),
            &format!("{KNOWN} WHERE b.stream = ?1 AND b.sequence = ?2"),
            &format!("{BUNDLE} WHERE b.id = ?1"),
            &format!("{BUNDLE} WHERE b.stream = ?1 AND b.sequence = ?2"),
            &bundles_sql(false),
            &bundles_sql(true),
            &refusals_sql(false),
            &refusals_sql(true),
        ] {
            let plan = plan(&ledger, sql);
            assert!(plan.iter().any(|l| l.starts_with("SEARCH")), "{sql}: {plan:#?}");
            // What the query itself put together: a subquery's rows, or the streams that it stepped to.
            let its_own =
                |l: &str| l.starts_with("SCAN (subquery") || OWN.contains(&l) || sql == ALL_WITHDRAWN && l == "SCAN w";
            let reads_all = |l: &&String| l.starts_with("SCAN") && !its_own(l);
            assert_eq!(plan.iter().find(reads_all), None, "{sql}: {plan:#?}");
            let sorts = plan.iter().any(|l| l.contains("TEMP B-TREE FOR ORDER BY"));
            // A page of images from two lists, and the streams, of which there are few.
            assert!(!sorts || sql == IMAGES_BY_DIGEST || sql == marks_sql(), "{sql}: {plan:#?}");
        }
    }
}

#[test]
fn pages_and_entries_come_in_order() {
    let (_folder, ledger) = large();
    assert_eq!(ledger.verify(&Nobody).expect("right").head.number.get(), 20_001);
    let all = ledger.bundles(&Filter { limit: 10_000, ..Filter::default() }).expect("read");
    assert_eq!(all.len(), 5000);
    let mut paged = Vec::new();
    let mut filter = Filter { limit: 999, ..Filter::default() };
    loop {
        let page = ledger.bundles(&filter).expect("read");
        let Some(last) = page.last() else { break };
        filter.before = Some(last.begun.entry);
        paged.extend(page);
    }
    assert_eq!(paged, all);
    assert!(all.is_sorted_by(|a, b| a.begun.entry > b.begun.entry));
    let even = Filter { stream: Some("even".parse().expect("a stream")), limit: 7, ..Filter::default() };
    let sequences = |rows: Vec<Subject>| rows.into_iter().map(|s| s.sequence.get()).collect::<Vec<_>>();
    let expected = [5000, 4998, 4996, 4994, 4992, 4990, 4988];
    assert_eq!(sequences(ledger.bundles(&even).expect("read").into_iter().map(|b| b.subject).collect()), expected);
    assert_eq!(sequences(ledger.refusals(&even).expect("read").into_iter().map(|b| b.subject).collect()), expected);
    let images = ledger.images_by_digest(&blobs::sha256(&7_u64.to_be_bytes()), 100).expect("read");
    assert_eq!(images.len(), 10);
    assert_eq!(images[0].production.tag.as_str(), "79");
    assert_eq!(ledger.entries(EntryNumber::FIRST).filter(Result::is_ok).count(), 20_001);
}
