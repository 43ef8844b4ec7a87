//! What SQLite is asked.

pub(super) const HEAD: &str =
    "SELECT e.number, e.hash, a.time FROM entry e LEFT JOIN act a ON a.entry = e.number AND a.n = 0
    WHERE e.number = (SELECT max(number) FROM entry)";
pub(super) const ENTRY: &str = "SELECT hash, bytes FROM entry WHERE number = ?1";
pub(super) const ENTRIES_OF_BUNDLE: &str = "SELECT entry FROM act WHERE bundle = ?1 ORDER BY entry";
pub(super) const KNOWN: &str = "SELECT b.id, b.stream, b.sequence, b.manifest, b.entry, a.time
    FROM bundle b JOIN act a ON a.entry = b.entry AND a.n = 0";
pub(super) const RECORDED: &str = "SELECT r.entry, a.time FROM recorded r JOIN act a ON a.entry = r.entry AND a.n = 0
    WHERE r.bundle = ?1";
pub(super) const RECEIVED: &str = "SELECT entry FROM received WHERE bundle = ?1";
pub(super) const REJECTED: &str = "SELECT r.entry, a.time FROM rejection r JOIN act a ON a.entry = r.entry AND a.n = 0
    WHERE r.bundle = ?1";
pub(super) const APPROVAL: &str = "SELECT entry, bundle FROM approval WHERE statement = ?1";
pub(super) const APPROVAL_WITHDRAWN: &str =
    "SELECT entry FROM approval_withdrawal WHERE statement = ?1 AND approver = ?2";
pub(super) const ANNOUNCEMENTS: &str = "SELECT entry FROM signing WHERE bundle = ?1 ORDER BY entry";
pub(super) const PROMOTIONS: &str = "SELECT entry FROM promoted WHERE bundle = ?1 ORDER BY entry";
pub(super) const OVERRIDES: &str = "SELECT entry FROM override WHERE bundle = ?1 AND rule = ?2 ORDER BY entry";
pub(super) const APPROVALS: &str = "SELECT entry FROM approval WHERE bundle = ?1
    AND NOT EXISTS (SELECT 1 FROM approval_withdrawal w
        WHERE w.statement = approval.statement AND w.approver = approval.approver) ORDER BY entry";
pub(super) const ALL_APPROVALS: &str = "SELECT entry FROM approval WHERE bundle = ?1 ORDER BY entry";
pub(super) const WITHDRAWALS: &str =
    "SELECT w.entry, a.time, w.reference FROM withdrawal w JOIN act a ON a.entry = w.entry AND a.n = 0
    WHERE w.digest = ?1 ORDER BY w.entry, w.n";
// A CROSS JOIN keeps its order (sqlite.org/optoverview.html): the withdrawals are few, the acts are many.
pub(super) const ALL_WITHDRAWN: &str =
    "SELECT w.entry, a.time, w.reference, w.digest FROM withdrawal w CROSS JOIN act a ON a.entry = w.entry AND a.n = 0
    WHERE NOT EXISTS (SELECT 1 FROM signature s
        WHERE s.digest = w.digest AND s.reference = w.reference AND s.entry > w.entry)
    AND NOT EXISTS (SELECT 1 FROM withdrawal l
        WHERE l.digest = w.digest AND l.reference = w.reference AND l.entry > w.entry)
    ORDER BY w.entry, w.n";
pub(super) const NEWEST_SIGNED: &str = "SELECT max(time) FROM signed WHERE stream = ?1";
pub(super) const BUNDLE: &str =
    "SELECT b.id, b.stream, b.sequence, b.manifest, b.entry, ba.time, sa.entry, sa.time, ra.entry, ra.time,
        r.images, va.entry, va.time, ja.entry, ja.time,
        (SELECT sum(p.images) FROM promoted p WHERE p.bundle = b.id)
    FROM bundle b JOIN act ba ON ba.entry = b.entry AND ba.n = 0
    LEFT JOIN act sa ON sa.entry = (SELECT min(s.entry) FROM signing s WHERE s.bundle = b.id) AND sa.n = 0
    LEFT JOIN recorded r ON r.bundle = b.id
    LEFT JOIN act ra ON ra.entry = r.entry AND ra.n = 0
    LEFT JOIN received v ON v.bundle = b.id
    LEFT JOIN act va ON va.entry = v.entry AND va.n = 0
    LEFT JOIN rejection j ON j.bundle = b.id
    LEFT JOIN act ja ON ja.entry = j.entry AND ja.n = 0";
// Both lists are cut off by themselves, so that a digest that is everywhere costs no more than another. An image that is no
// index is in both, and shown once.
pub(super) const IMAGES_BY_DIGEST: &str =
    "SELECT i.entry, a.time, i.bundle, i.origin, i.production, i.digest, d.platform
    FROM (SELECT * FROM (SELECT entry, n, NULL AS platform, 1 AS itself FROM image WHERE digest = ?1
              ORDER BY entry DESC, n LIMIT ?2)
          UNION ALL
          SELECT * FROM (SELECT DISTINCT entry, image, platform, 0 FROM platform WHERE digest = ?1
              ORDER BY entry DESC, image LIMIT ?2)) d
    JOIN image i ON i.entry = d.entry AND i.n = d.n
    JOIN act a ON a.entry = i.entry AND a.n = 0
    WHERE d.itself OR i.digest <> ?1
    ORDER BY i.entry DESC, i.n LIMIT ?2";
pub(super) const PLATFORMS_OF: &str = "SELECT DISTINCT p.digest FROM image i
    JOIN platform p ON p.entry = i.entry AND p.image = i.n WHERE i.digest = ?1";
pub(super) const SIGNATURES_BY_DIGEST: &str = "SELECT s.entry, a.time, s.bundle, s.reference, s.digest, s.path, s.file
    FROM signature s JOIN act a ON a.entry = s.entry AND a.n = 0
    WHERE s.digest = ?1 ORDER BY s.entry DESC, s.n LIMIT ?2";
pub(super) const SIGNATURES_IN: &str = "SELECT s.entry, a.time, s.bundle, s.reference, s.digest, s.path, s.file
    FROM signature s JOIN act a ON a.entry = s.entry AND a.n = 0
    WHERE s.digest = ?1 AND (s.reference = ?2 OR substr(s.reference, 1, length(?2) + 1) IN (?2 || ':', ?2 || '@'))
    ORDER BY s.entry DESC, s.n";
pub(super) const IS_WITHDRAWN: &str = "SELECT
    coalesce((SELECT max(entry) FROM withdrawal WHERE digest = ?1 AND reference = ?2), 0) >
    coalesce((SELECT max(entry) FROM signature WHERE digest = ?1 AND reference = ?2), 0)";
pub(super) const MOVES_OF_TAG: &str = "SELECT t.entry, a.time, t.bundle, t.digest, t.previous
    FROM tag t JOIN act a ON a.entry = t.entry AND a.n = 0
    WHERE t.tag = ?1 ORDER BY t.entry DESC, t.n LIMIT ?2";

/// The newest sequence of a stream whose tags were about to move; 0 for none.
fn newest_of(stream: &str) -> String {
    let newest = |table| format!("coalesce((SELECT max(sequence) FROM {table} WHERE stream = {stream}), 0)");
    format!("max({})", ["signing", "recorded", "mark"].map(newest).join(", "))
}

pub(super) fn newest_sql() -> String {
    format!("SELECT nullif({}, 0)", newest_of("?1"))
}

/// Steps from one stream to the next in the indexes.
pub(super) fn marks_sql() -> String {
    let streams = |name: &str, table: &str| {
        let next = format!("SELECT min(stream) FROM {table} WHERE stream > {name}.stream");
        format!(
            "{name}(stream) AS (SELECT (SELECT min(stream) FROM {table}) UNION ALL
                SELECT ({next}) FROM {name} WHERE {name}.stream IS NOT NULL)"
        )
    };
    format!(
        "WITH RECURSIVE {}, {} SELECT d.stream, {} FROM (SELECT stream FROM s UNION SELECT stream FROM m) d
         WHERE d.stream IS NOT NULL ORDER BY d.stream",
        streams("s", "signing"),
        streams("m", "mark"),
        newest_of("d.stream")
    )
}

pub(super) fn bundles_sql(of_stream: bool) -> String {
    let stream = if of_stream { "b.stream = ?3" } else { "?3 IS NULL" };
    format!("{BUNDLE} WHERE {stream} AND b.entry < ?1 ORDER BY b.entry DESC LIMIT ?2")
}

pub(super) fn refusals_sql(of_stream: bool) -> String {
    let stream = if of_stream { "stream = ?3" } else { "?3 IS NULL" };
    format!("SELECT entry FROM refusal WHERE {stream} AND entry < ?1 ORDER BY entry DESC LIMIT ?2")
}
