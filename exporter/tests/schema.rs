//! The committed JSON schema is the one the types describe. `SEALIFT_BLESS=1` rewrites it.

use std::path::Path;

#[test]
fn the_committed_schema_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("release.schema.json");
    let current = exporter::config::json_schema();
    if std::env::var_os("SEALIFT_BLESS").is_some() {
        std::fs::write(&path, &current).expect("write the schema");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == current, "{} is out of date: run the tests with SEALIFT_BLESS=1", path.display());
}
