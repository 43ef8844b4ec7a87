//! Addresses of servers: a name is resolved with a bound on the time it takes, and the answer kept for a short while.
//!
//! The HTTP library resolves before every request, also where a connection is kept, and needs a thread each time to keep
//! to its timeout.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// How long an answer is kept.
const KEPT: Duration = Duration::from_secs(30);

/// How many addresses the library tries.
const MOST: usize = 16;

/// The addresses of servers. Cheap to clone; clones share what is known.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    known: Arc<Mutex<HashMap<(String, u16), Known>>>,
    system: Arc<dyn Resolver>,
}

#[derive(Debug)]
struct Known {
    addresses: Vec<SocketAddr>,
    since: Instant,
}

impl Default for Names {
    fn default() -> Self {
        Self::with(Arc::new(DefaultResolver::default()))
    }
}

impl Names {
    fn with(system: Arc<dyn Resolver>) -> Self {
        Self { known: Arc::default(), system }
    }

    /// Forgets all answers: a server may have moved.
    pub(crate) fn forget(&self) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn given(&self, addresses: &[SocketAddr]) -> ResolvedSocketAddrs {
        let mut given = self.empty();
        for address in addresses.iter().take(MOST) {
            given.push(*address);
        }
        given
    }
}

impl Resolver for Names {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let ask = || self.system.resolve(uri, config, timeout);
        let Some((host, port)) = server(uri) else { return ask() };
        if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
            return Ok(self.given(&[SocketAddr::new(address, port)]));
        }
        let key = (host.to_ascii_lowercase(), port);
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known().get(&key).filter(|found| found.since.elapsed() < KEPT) {
            return Ok(self.given(&found.addresses));
        }
        let found = ask()?;
        known().insert(key, Known { addresses: found.to_vec(), since: Instant::now() });
        Ok(found)
    }
}

/// The host and port that a URI leads to; `None` where the library knows better.
fn server(uri: &Uri) -> Option<(&str, u16)> {
    let port = uri.port_u16().or_else(|| match uri.scheme_str() {
        Some("http") => Some(80),
        Some("https") => Some(443),
        _ => None,
    });
    Some((uri.host()?, port?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Every name has one address, and each question is counted.
    #[derive(Debug, Default)]
    struct System(AtomicUsize);

    impl Resolver for System {
        fn resolve(&self, uri: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
            self.0.fetch_add(1, Ordering::SeqCst);
            let mut found = self.empty();
            found.push(SocketAddr::from(([192, 0, 2, 9], uri.port_u16().unwrap_or(1))));
            Ok(found)
        }
    }

    #[test]
    fn an_address_is_not_looked_up_and_a_name_once() {
        let system = Arc::new(System::default());
        let names = Names::with(system.clone());
        let resolve = |uri: &str| {
            let uri = uri.parse().expect(uri);
            let found = names.resolve(&uri, &Config::default(), NextTimeout::default()).expect("an address");
            (found.to_vec(), system.0.load(Ordering::SeqCst))
        };
        let address = |text: &str| vec![text.parse::<SocketAddr>().expect(text)];
        assert_eq!(resolve("https://192.0.2.1/v2/"), (address("192.0.2.1:443"), 0));
        assert_eq!(resolve("http://192.0.2.1:5000/v2/"), (address("192.0.2.1:5000"), 0));
        assert_eq!(resolve("http://[2001:db8::1]/"), (address("[2001:db8::1]:80"), 0));
        assert_eq!(resolve("http://r.example:1/"), (address("192.0.2.9:1"), 1));
        assert_eq!(resolve("http://R.example:1/x"), (address("192.0.2.9:1"), 1));
        assert_eq!(resolve("http://r.example:2/"), (address("192.0.2.9:2"), 2), "another port");
        names.forget();
        assert_eq!(resolve("http://r.example:1/"), (address("192.0.2.9:1"), 3));
    }
}
