//! Several blobs and volumes at once: as many as was said, and what goes wrong with one ends the others.

#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use testkit::hostile::{self, volume_file};
use testkit::http::Client;
use testkit::proxy::{Handler, Seen};
use testkit::{Proxy, Site, need};

/// Lets uploads begin only once so many are there.
struct Together {
    registry: String,
    wanted: usize,
    /// The requests there now, and the most there were.
    there: Mutex<(usize, usize)>,
    changed: Condvar,
}

impl Together {
    fn before(site: &Site, wanted: usize) -> (Arc<Self>, Proxy) {
        let (there, changed) = (Mutex::default(), Condvar::new());
        let together = Arc::new(Self { registry: site.production.url(), wanted, there, changed });
        let proxy = Proxy::with_handler(site.production.host(), together.clone());
        (together, proxy)
    }
}

impl Handler for Together {
    fn wants(&self, seen: &Seen) -> bool {
        seen.method == "POST" && seen.path.contains("/blobs/uploads/")
    }

    fn answer(&self, seen: &Seen, _: &[u8]) -> (u16, Vec<(String, String)>, Vec<u8>) {
        let mut there = self.there.lock().unwrap();
        there.0 += 1;
        there.1 = there.1.max(there.0);
        self.changed.notify_all();
        let few = |there: &mut (usize, usize)| there.1 < self.wanted;
        drop(self.changed.wait_timeout_while(there, Duration::from_secs(20), few).unwrap());
        // One too many has time to come.
        std::thread::sleep(Duration::from_millis(100));
        self.there.lock().unwrap().0 -= 1;
        let begun = Client::new(None, None).send("POST", &format!("{}{}", self.registry, seen.path), &[], &[]);
        (begun.status, vec![("Location".into(), begun.headers["location"].clone())], begun.body)
    }
}

/// A bundle with six layers of half a megabyte.
fn packed(site: &mut Site, args: &[&str]) -> std::path::PathBuf {
    let layers: Vec<Vec<u8>> = (0..6_u8)
        .map(|n| (0..500_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8 ^ n).collect())
        .collect();
    site.list_layers("1", &layers.iter().map(Vec::as_slice).collect::<Vec<_>>());
    site.pack(1, args).expect_code(0);
    site.media().join("payments-1")
}

#[test]
fn so_many_blobs_are_pushed_at_once_as_was_said() {
    if !need(Site::NEEDS) {
        return;
    }
    // From one volume, and from two that are read at once.
    for (args, jobs, most) in [
        (&[][..], "3", 3),
        (&[], "1", 1),
        (&["--volume-size", "1100KiB"], "2", 2),
        (&["--volume-size", "1100KiB"], "1", 1),
    ] {
        let mut site = Site::new();
        let bundle = packed(&mut site, args);
        let (together, proxy) = Together::before(&site, most);
        site.import["streams"]["payments"]["to"][0]["to"] = format!("{}/payments", proxy.host()).into();
        site.receive(&bundle, &["--jobs", jobs]).expect_code(0);
        assert_eq!(together.there.lock().unwrap().1, most, "{args:?} --jobs {jobs}");
    }
}

#[test]
fn what_is_wrong_with_one_volume_is_told_while_others_are_read() {
    if !need(Site::NEEDS) {
        return;
    }
    for number in 1..=3 {
        let mut site = Site::new();
        let bundle = packed(&mut site, &["--volume-size", "1100KiB"]);
        hostile::flip_bit(&volume_file(&bundle, number));
        for jobs in ["1", "8"] {
            let ran = site.receive(&bundle, &["--jobs", jobs]).expect_code(4);
            assert!(
                ran.stderr.contains(&format!("payments-1.{number:04}.tar.zst.age: differs from the seal")),
                "{ran}"
            );
            assert!(site.production.tags().is_empty());
        }
        hostile::flip_bit(&volume_file(&bundle, number));
        site.receive(&bundle, &[]).expect_code(0);
    }
}
