//! A real image with real signatures.

use serde_json::json;
use testkit::{Key, Registry, Site, need};

use crate::{set_policy, shared, signed_by};

const NAME: &str = "registry.redhat.io/albo/aws-load-balancer-operator-bundle:0.0.1";

/// A site whose release is the image of Red Hat, as skopeo copied it.
fn site() -> Option<Site> {
    let image = shared("redhat/noo-bundle-image")?;
    if !need(Site::NEEDS) {
        return None;
    }
    let mut site = Site::between(Registry::start(), Registry::start());
    site.release["images"] = json!([format!("dir:{}={NAME}", image.display())]);
    let to = format!("{}/redhat", site.production.host());
    site.import["streams"]["payments"]["origins"] = json!(["registry.redhat.io"]);
    site.import["streams"]["payments"]["to"] = json!([{ "from": "registry.redhat.io", "to": to }]);
    Some(site)
}

#[test]
fn red_hats_image_is_accepted_by_red_hats_key_and_refused_by_others() {
    let Some(mut site) = site() else { return };
    let plan = testkit::run_ok(&mut site.export(&["plan", "--sequence", "1"]));
    assert_eq!(plan.stdout.matches("simple signature").count(), 4, "{plan}");
    assert!(plan.stdout.contains("by 199E2F91FD431D51"), "{plan}");
    let bundle = site.packed(1);

    let theirs = shared("redhat/verifier-public-key-redhat-release").unwrap();
    let other = Key::new(&site.scratch("keys"), "other");
    set_policy(&mut site, json!({ "registry.redhat.io": [signed_by(&other.certificate_file)] }));
    let before = crate::common::World::of(&site);
    let ran = site.receive(&bundle, &[]).expect_code(3);
    assert!(ran.stderr.contains("the image policy refuses sha256:"), "{ran}");
    assert!(ran.stderr.contains("scope docker: registry.redhat.io: signedBy: signature 1: "), "{ran}");
    assert!(ran.stderr.contains("unknown key"), "{ran}");
    before.leaves_only(crate::common::Leaves::Refusal, &crate::common::World::of(&site)).unwrap();

    set_policy(&mut site, json!({ "registry.redhat.io": [signed_by(&theirs)] }));
    let inspected = testkit::run_ok(site.import(&["inspect"]).arg(&bundle));
    assert!(inspected.stdout.contains("accepted by the image policy (docker: registry.redhat.io)"), "{inspected}");
    assert!(inspected.stdout.contains("567E347AD0044ADE55BA8A5F199E2F91FD431D51"), "{inspected}");
    site.receive(&bundle, &[]).expect_code(0);
    let shown = testkit::run_ok(&mut site.import(&["ledger", "show", "payments-1"]));
    assert!(shown.stdout.contains("accepted by the image policy (docker: registry.redhat.io)"), "{shown}");
    assert!(shown.stdout.contains("by 567E347AD0044ADE55BA8A5F199E2F91FD431D51"), "{shown}");
    assert!(!shown.stdout.contains("image-policy: no policy configured"), "{shown}");
}
