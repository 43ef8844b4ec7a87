//! Image manifests and indexes that somebody with the release key made by hand: what they say of each other must agree.

use manifest_schema::MediaType;
use serde_json::{Value, json};
use testkit::layout::{DOCKER_CONFIG, with_platform};
use testkit::{Layout, Site, need};

use crate::common::{Case, Forged, Leaves, Leaves::Nothing, Leaves::Refusal, case, parts, refused};

/// A forged bundle.
fn forged(name: &'static str, says: &'static str, leaves: Leaves, make: impl Fn(&Site) -> Forged + 'static) -> Case {
    case(name, 3, &[says], leaves, move |site, folder| make(site).into(site, folder))
}

/// An image manifest as it should be, with changes of its text.
fn altered(layout: &Layout, change: impl FnOnce(&mut Value)) -> (Value, Value, Value) {
    let image = layout.image(&[b"layer"]);
    let digest = image["digest"].as_str().unwrap().parse().unwrap();
    let mut document: Value = serde_json::from_slice(&testkit::layout::blob(layout.path(), &digest)).unwrap();
    change(&mut document);
    let (config, layers) = parts(layout, &image);
    let bytes = document.to_string();
    (layout.blob(MediaType::OCI_MANIFEST, bytes.as_bytes()), config, layers[0].clone())
}

/// A bundle of one image manifest that was altered.
fn one(site: &Site, change: impl FnOnce(&mut Value)) -> Forged {
    let forged = Forged::new();
    let (image, config, layer) = altered(&forged.layout, change);
    forged.admission(&[&config, &image]).layers(&[&layer]).image(site, &image, &[&image])
}

/// An index of two platforms with all its parts: configurations, manifests, index; layers.
struct Multi {
    forged: Forged,
    configs: Vec<Value>,
    manifests: Vec<Value>,
    index: Value,
    layers: Vec<Value>,
}

fn multi() -> Multi {
    let forged = Forged::new();
    let manifests: Vec<_> = ["amd64", "arm64"]
        .iter()
        .map(|a| with_platform(forged.layout.image_for(a, &[a.as_bytes()]), a, None))
        .collect();
    let parts: Vec<_> = manifests.iter().map(|m| parts(&forged.layout, m)).collect();
    let index = forged.layout.index(&manifests);
    let (configs, layers) = parts.into_iter().map(|(config, mut layers)| (config, layers.remove(0))).unzip();
    Multi { forged, configs, manifests, index, layers }
}

#[test]
fn a_bundle_made_by_hand_is_received_if_it_is_sound() {
    if !need(Site::NEEDS) {
        return;
    }
    let site = Site::new();
    let folder = site.packed(42);
    let Multi { forged, configs: c, manifests: m, index, layers: l } = multi();
    forged
        .admission(&[&c[0], &m[0], &c[1], &m[1], &index])
        .layers(&[&l[0], &l[1]])
        .image(&site, &index, &[&m[0], &m[1]])
        .into(&site, &folder);
    site.receive(&folder, &[]).expect_code(0);
    assert_eq!(site.production.tags()["payments/forged:1"].to_string(), index["digest"].as_str().unwrap());
}

#[test]
fn documents_agree_with_each_other_and_with_the_manifest() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let bundle = site.packed(42);
    refused(
        &mut site,
        &bundle,
        &[
            forged("a manifest that is an index too", "ambiguous", Refusal, |site| {
                one(site, |d| d["manifests"] = json!([]))
            }),
            forged("a manifest with layers in two cases", "ambiguous", Refusal, |site| {
                one(site, |d| d["Layers"] = json!([]))
            }),
            forged("a manifest that says it is an index", "the document says", Refusal, |site| {
                one(site, |d| d["mediaType"] = MediaType::OCI_INDEX.into())
            }),
            forged("a manifest that is Docker's", "the document says", Refusal, |site| {
                one(site, |d| {
                    d["mediaType"] = MediaType::DOCKER_MANIFEST.into();
                    d["config"]["mediaType"] = DOCKER_CONFIG.into();
                })
            }),
            forged("no JSON", "not a sound image manifest", Refusal, |site| {
                let forged = Forged::new();
                let image = forged.layout.blob(MediaType::OCI_MANIFEST, b"\x1b[2Jnot JSON");
                forged.admission(&[&image]).image(site, &image, &[&image])
            }),
            forged("a layer of another size", "bytes, listed with", Refusal, |site| {
                one(site, |d| d["layers"][0]["size"] = 7.into())
            }),
            forged("a layer that is not there", "is not in the bundle", Refusal, |site| {
                one(site, |d| d["layers"][0]["digest"] = format!("sha256:{}", "ab".repeat(32)).into())
            }),
            forged("an index that is a manifest too", "ambiguous", Refusal, |site| {
                let Multi { forged, configs: c, manifests: m, layers: l, .. } = multi();
                let document = json!({
                    "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": [m[0], m[1]], "layers": [l[0]],
                });
                let index = forged.layout.document(&document);
                forged.admission(&[&c[0], &m[0], &c[1], &m[1], &index]).layers(&[&l[0], &l[1]]).image(
                    site,
                    &index,
                    &[&m[0], &m[1]],
                )
            }),
            forged("an index before its entries", "stands behind it", Refusal, |site| {
                let Multi { forged, configs: c, manifests: m, index, layers: l } = multi();
                forged.admission(&[&c[0], &c[1], &index, &m[0], &m[1]]).layers(&[&l[0], &l[1]]).image(
                    site,
                    &index,
                    &[&m[0], &m[1]],
                )
            }),
            forged(
                "a blob that no image needs, among the layers",
                "no image of the bundle needs it",
                Refusal,
                |site| {
                    let forged = one(site, |_| ());
                    let stray = forged.layout.blob(MediaType::OCI_LAYER_TAR, b"stray");
                    forged.layers(&[&stray])
                },
            ),
            forged(
                "a blob that no image needs, in the admission section",
                "no image of the bundle needs",
                Refusal,
                |site| {
                    let forged = Forged::new();
                    let stray = forged.layout.blob(MediaType::OCI_CONFIG, b"{}");
                    let (image, config, layer) = altered(&forged.layout, |_| ());
                    forged.admission(&[&stray, &config, &image]).layers(&[&layer]).image(site, &image, &[&image])
                },
            ),
            forged("a manifest that no image needs", "no image of the bundle needs it", Refusal, |site| {
                let Multi { forged, configs: c, manifests: m, layers: l, .. } = multi();
                forged.admission(&[&c[0], &m[0], &c[1], &m[1]]).layers(&[&l[0], &l[1]]).image(
                    site,
                    &m[0],
                    &[&json!({ "digest": m[0]["digest"] })],
                )
            }),
            forged("a configuration among the layers", "stands among the layers", Refusal, |site| {
                let forged = Forged::new();
                let (image, config, layer) = altered(&forged.layout, |_| ());
                forged.admission(&[&image]).layers(&[&config, &layer]).image(site, &image, &[&image])
            }),
            forged("a manifest as a layer", "is both a blob and a", Refusal, |site| {
                let Multi { forged, configs: c, manifests: m, layers: l, .. } = multi();
                let document = json!({
                    "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "config": c[1],
                    "layers": [{ "mediaType": MediaType::OCI_LAYER_TAR, "digest": m[0]["digest"], "size": m[0]["size"] }],
                });
                let image = forged.layout.document(&document);
                forged.admission(&[&c[0], &m[0], &c[1], &image]).layers(&[&l[0]]).image(site, &image, &[&image]).image(
                    site,
                    &m[0],
                    &[&json!({ "digest": m[0]["digest"] })],
                )
            }),
            forged("an entry of another media type", "listed as", Refusal, |site| {
                let Multi { forged, configs: c, manifests: m, layers: l, .. } = multi();
                let mut entry = m[0].clone();
                entry["mediaType"] = MediaType::DOCKER_MANIFEST.into();
                let document =
                    json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": [entry, m[1]] });
                let index = forged.layout.document(&document);
                forged.admission(&[&c[0], &m[0], &c[1], &m[1], &index]).layers(&[&l[0], &l[1]]).image(
                    site,
                    &index,
                    &[&m[0], &m[1]],
                )
            }),
            forged("platforms in another order", "its platforms are not those", Refusal, |site| {
                let Multi { forged, configs: c, manifests: m, index, layers: l } = multi();
                forged.admission(&[&c[0], &m[0], &c[1], &m[1], &index]).layers(&[&l[0], &l[1]]).image(
                    site,
                    &index,
                    &[&m[1], &m[0]],
                )
            }),
            forged("a platform of another name", "its platforms are not those", Refusal, |site| {
                let Multi { forged, configs: c, manifests: m, index, layers: l } = multi();
                let other = with_platform(m[1].clone(), "s390x", None);
                forged.admission(&[&c[0], &m[0], &c[1], &m[1], &index]).layers(&[&l[0], &l[1]]).image(
                    site,
                    &index,
                    &[&m[0], &other],
                )
            }),
            forged("an index with an entry left out that does not say so", "does not say truly", Refusal, |site| {
                let Multi { forged, configs: c, manifests: m, index, layers: l } = multi();
                forged.admission(&[&c[0], &m[0], &index]).layers(&[&l[0]]).image(site, &index, &[&m[0]])
            }),
            case(
                "a whole index that says an entry is left out",
                3,
                &["does not say truly"],
                Refusal,
                |site, folder| {
                    let Multi { forged, configs: c, manifests: m, index, layers: l } = multi();
                    forged
                        .admission(&[&c[0], &m[0], &c[1], &m[1], &index])
                        .layers(&[&l[0], &l[1]])
                        .image(site, &index, &[&m[0], &m[1]])
                        .with(site, folder, |m| m["images"][0]["sparse"] = true.into());
                },
            ),
            forged("indexes nested too deeply", "nested too deeply", Refusal, |site| {
                let mut forged = Forged::new();
                let (image, config, layer) = altered(&forged.layout, |_| ());
                let mut top = image.clone();
                forged = forged.admission(&[&config, &image]);
                for _ in 0..=manifest_schema::LIMITS.nesting {
                    top = forged.layout.index(&[top]);
                    forged = forged.admission(&[&top]);
                }
                forged.layers(&[&layer]).image(site, &top, &[&image])
            }),
            forged("a document of a kind that is not carried", "media type", Nothing, |site| {
                let forged = Forged::new();
                let old = forged.layout.blob("application/vnd.docker.distribution.manifest.v1+prettyjws", b"{}");
                forged.admission(&[&old]).image(site, &old, &[&old])
            }),
            forged("an image that is not there", "is not in the admission section", Nothing, |site| {
                let forged = one(site, |_| ());
                let other = json!({
                    "mediaType": MediaType::OCI_MANIFEST, "digest": format!("sha256:{}", "ab".repeat(32)), "size": 7,
                });
                forged.image(site, &other, &[&other])
            }),
        ],
    );
    assert!(site.production.uploaded_blobs().is_empty());
}
