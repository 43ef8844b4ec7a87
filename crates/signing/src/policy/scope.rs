//! Which list of requirements is meant: the most specific scope of a transport.

use super::identity::Named;

/// The scopes that could be meant for an image of the `docker` transport, the most specific first: the reference, its
/// repository, every parent, the host with its port, then `*.` and every parent domain of the host.
pub(crate) fn docker_scopes(image: &Named) -> Vec<String> {
    [vec![image.to_string()], name_scopes(image.name())].concat()
}

/// The scopes that could be meant for all that lies below a host, or a host and a path, from that name on.
pub(super) fn name_scopes(mut name: &str) -> Vec<String> {
    let mut scopes = Vec::new();
    loop {
        scopes.push(name.into());
        match name.rsplit_once('/') {
            Some((parent, _)) => name = parent,
            None => break,
        }
    }
    let host = name.split(':').next().unwrap_or(name);
    scopes.extend(host.match_indices('.').map(|(dot, _)| format!("*{}", &host[dot..])));
    scopes
}

/// The scopes that could be meant for an image of another transport: what the transport calls it and, if that is an
/// absolute path, every folder above but the root.
pub(super) fn other_scopes(identity: &str) -> Vec<String> {
    let mut scopes = vec![identity.to_string()];
    let mut path = identity;
    while let Some((parent, _)) = path.rsplit_once('/').filter(|_| identity.starts_with('/')) {
        if !parent.is_empty() {
            scopes.push(parent.into());
        }
        path = parent;
    }
    scopes
}

/// Why a transport can have no such scope.
///
/// Only what containers/image checks: a scope of `docker` that can never be meant is no error.
pub(super) fn check(transport: &str, scope: &str) -> Result<(), &'static str> {
    match transport {
        _ if scope.is_empty() => Ok(()),
        "dir" | "oci" | "oci-archive" | "sif" => absolute(scope),
        "docker-archive" | "tarball" => Err("this transport has no scope but \"\""),
        "docker-daemon" if scope.starts_with("sha256:") => Err("the id of an image is no scope"),
        // Transports that containers/image does not know are never asked for.
        _ => Ok(()),
    }
}

fn absolute(path: &str) -> Result<(), &'static str> {
    if !path.starts_with('/') {
        return Err("expected an absolute path");
    }
    if path == "/" {
        return Err("expected \"\", which says the same");
    }
    let plain = |component: &str| !matches!(component, "" | "." | "..");
    if path.split('/').skip(1).all(plain) { Ok(()) } else { Err("expected a path without //, ., .. and / at the end") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_specific_first() {
        let scopes = |text: &str| docker_scopes(&Named::parse_normalized(text).expect("a name"));
        assert_eq!(
            scopes("registry.dev.example:5000/team/app:1"),
            [
                "registry.dev.example:5000/team/app:1",
                "registry.dev.example:5000/team/app",
                "registry.dev.example:5000/team",
                "registry.dev.example:5000",
                "*.dev.example",
                "*.example",
            ]
        );
        assert_eq!(scopes("localhost:5000/a:1"), ["localhost:5000/a:1", "localhost:5000/a", "localhost:5000"]);
        assert_eq!(
            scopes("busybox:1"),
            ["docker.io/library/busybox:1", "docker.io/library/busybox", "docker.io/library", "docker.io", "*.io"]
        );
        assert_eq!(other_scopes("/srv/images/app"), ["/srv/images/app", "/srv/images", "/srv"]);
        assert_eq!(other_scopes(""), [""]);
        assert_eq!(other_scopes("a/b"), ["a/b"]);
    }

    #[test]
    fn scopes_of_paths() {
        for good in ["", "/srv", "/srv/a b", "/srv/..a"] {
            for transport in ["dir", "oci"] {
                assert_eq!(check(transport, good), Ok(()), "{good}");
            }
        }
        for bad in ["/", "srv", "/srv/", "/srv//a", "/srv/../a", "/./srv", "*.example"] {
            for transport in ["dir", "oci", "oci-archive"] {
                assert!(check(transport, bad).is_err(), "{bad}");
            }
            assert_eq!(check("docker", bad), Ok(()));
            assert_eq!(check("of-the-future", bad), Ok(()));
        }
        assert!(check("docker-archive", "/a").is_err() && check("docker-daemon", "sha256:20bf").is_err());
        assert_eq!(check("docker-daemon", "r.example"), Ok(()));
        assert_eq!(check("docker-daemon", ""), Ok(()));
    }
}
