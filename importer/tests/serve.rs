//! `serve`: signatures over HTTP, read by stock skopeo and asked for by anybody.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use manifest_schema::Reference;
use serde_json::json;
use signing::Lookaside;
use tempfile::TempDir;
use testkit::http::{Answer, Client};
use testkit::layout::{API, digest, fixtures};
use testkit::{Node, Site, need, run};

const NAME: &str = "payments/api:2.3.1";

/// A running `serve`.
struct Server {
    child: Child,
    url: String,
    /// What it says besides.
    _stderr: BufReader<ChildStderr>,
}

impl Server {
    fn start(site: &Site, args: &[&str]) -> Self {
        let mut command = site.import(&["serve", "--listen", "127.0.0.1:0"]);
        let mut child = command.args(args).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        stderr.read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("serving ").unwrap_or_else(|| panic!("{line}")).to_string();
        Self { child, url, _stderr: stderr }
    }

    fn get(&self, path: &str) -> Answer {
        Client::new(None, None).send("GET", &format!("{}{path}", self.url), &[], b"")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn received() -> Site {
    let site = Site::new();
    let bundle = site.packed(1);
    site.receive(&bundle, &[]).expect_code(0);
    site
}

/// The path of the first signature of the index.
fn path(site: &Site) -> String {
    let name: Reference = format!("{}/{NAME}", site.production.host()).parse().unwrap();
    format!("/{}/signature-1", Lookaside::path_for(name.repository(), &digest(&fixtures(), API)).display())
}

#[test]
fn a_cluster_reads_signatures_from_it_until_they_are_withdrawn() {
    if !need(&["docker-registry", "skopeo"]) {
        return;
    }
    let site = received();
    let server = Server::start(&site, &[]);
    let folder = site.scratch("handed").join("production");
    let mut handover = site.import(&["handover", "production", "--lookaside-url", &server.url]);
    run(handover.arg(&folder).arg("--key-dir").arg(folder.join("keys"))).expect_code(0);
    let image = format!("{}/{NAME}", site.production.host());
    let node = Node::new(&folder, site.scratch("node"));
    node.takes(&image).expect_code(0);
    run(&mut site.import(&["withdraw", &image, "--reason", "CVE-2026-1"])).expect_code(0);
    node.refuses(&image);
}

#[test]
fn nothing_but_signatures_is_served() {
    if !need(Site::NEEDS) {
        return;
    }
    let site = received();
    let (server, path) = (Server::start(&site, &[]), path(&site));
    let file = site.lookaside().join(&path[1..]);
    let answer = server.get(&path);
    assert_eq!((answer.status, &answer.body), (200, &fs::read(&file).unwrap()));
    assert_eq!(answer.headers["cache-control"], "no-cache");
    let client = Client::new(None, None);
    let head = client.send("HEAD", &format!("{}{path}", server.url), &[], b"");
    assert_eq!((head.status, head.headers["content-length"].parse()), (200, Ok(answer.body.len())));
    assert!(head.body.is_empty());

    // What else there is, what leads elsewhere, and other ways to ask.
    let directory = path.strip_suffix("/signature-1").unwrap();
    fs::write(site.lookaside().join("note"), "mine").unwrap();
    fs::write(file.with_file_name("signature-3"), "behind a gap").unwrap();
    symlink(site.import_dir().join("import.yaml"), file.with_file_name("signature-2")).unwrap();
    for wrong in [
        "/".into(),
        "/note".into(),
        "/payments".into(),
        directory.to_string(),
        format!("{directory}/"),
        format!("{directory}/signature-2"),
        format!("{directory}/signature-0"),
        format!("{directory}/../{}", &directory[1..]),
        format!("/..{path}"),
        format!("{path}?x"),
        path.replace("payments", "payments2"),
    ] {
        let answer = server.get(&wrong);
        assert_eq!((answer.status, answer.body.len()), (404, 0), "{wrong}");
        assert_eq!(answer.headers.get("cache-control").map(String::as_str), Some("no-cache"), "{wrong}");
    }
    for method in ["POST", "PUT", "DELETE"] {
        assert_eq!(client.send(method, &format!("{}{path}", server.url), &[], b"").status, 404, "{method}");
    }
    assert!(file.exists());
}

#[test]
fn staging_several_registries_and_releases_have_trees_of_their_own() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = received();
    let path = path(&site);
    let bytes = fs::read(site.lookaside().join(&path[1..])).unwrap();
    let release = format!("sha256={}/signature-1", "ab".repeat(32));
    let releases = site.scratch("releases");
    fs::create_dir_all(releases.join(&release).parent().unwrap()).unwrap();
    fs::write(releases.join(&release), "a signature").unwrap();
    site.import["production"]["release_signatures"] = json!(releases);
    let host = site.production.host().to_string();
    site.import["production"]["lookaside"] = json!({ &host: "sigstore/" });
    let server = Server::start(&site, &[]);
    assert_eq!(server.get(&format!("/{host}{path}")).body, bytes);
    assert_eq!(server.get(&path).status, 404);
    assert_eq!(server.get(&format!("/other.example{path}")).status, 404);
    assert_eq!(server.get(&format!("/{release}")).body, b"a signature");

    let mut none = site.import(&["serve", "--staging", "--listen", "127.0.0.1:0"]);
    run(&mut none).expect_code(2).expect_stderr("no staging registry is configured");
    site.import["staging"] = json!({ "to": [{ "from": host, "to": "qa.example" }], "lookaside": "qa-sigstore/" });
    let staged = site.import_dir().join("qa-sigstore").join(&path[1..]);
    fs::create_dir_all(staged.parent().unwrap()).unwrap();
    fs::write(&staged, "of the origin").unwrap();
    let server = Server::start(&site, &["--staging"]);
    assert_eq!(server.get(&path).body, b"of the origin");
    assert_eq!(server.get(&format!("/{release}")).status, 404);
}

#[test]
fn https_is_served_with_a_certificate() {
    if !need(&[Site::NEEDS, &["openssl"]].concat()) {
        return;
    }
    let site = received();
    let folder = site.scratch("tls");
    testkit::registry::make_certificates(&folder);
    let (certificate, key) = (folder.join("leaf.crt"), folder.join("leaf.key"));
    let (of, by) = (certificate.to_str().unwrap(), key.to_str().unwrap());
    let server = Server::start(&site, &["--tls-certificate", of, "--tls-key", by]);
    assert!(server.url.starts_with("https://"));
    let client = Client::new(Some(&fs::read(folder.join("ca.crt")).unwrap()), None);
    let answer = client.send("GET", &format!("{}{}", server.url, path(&site)), &[], b"");
    assert_eq!((answer.status, answer.body), (200, fs::read(site.lookaside().join(&path(&site)[1..])).unwrap()));
    let wrong = |args: &[&str]| run(site.import(&["serve", "--listen", "127.0.0.1:0"]).args(args)).expect_code(2);
    wrong(&["--tls-certificate", of]).expect_stderr("--tls-key");
    wrong(&["--tls-certificate", by, "--tls-key", by]).expect_stderr("holds no certificate in PEM");
    wrong(&["--tls-certificate", of, "--tls-key", of]).expect_stderr("leaf.crt");
}

/// The block of docs/operating.md for a web server, for this tree and port.
fn documented(server: &str, tree: &Path, port: u16) -> String {
    let document = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operating.md")).unwrap();
    let block = document.split(&format!("```{server}\n")).nth(1).unwrap().split("```").next().unwrap();
    block.replace("/srv/sealift/sigstore", tree.to_str().unwrap()).replace("8080", &format!("127.0.0.1:{port}"))
}

/// Web servers with the documented configuration, and a folder that they may read as any user.
struct WebServer {
    child: Child,
    url: String,
    tree: TempDir,
}

impl WebServer {
    fn start(site: &Site, name: &str) -> Self {
        let tree = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir().unwrap();
        testkit::run_ok(
            testkit::command("cp", tree.path()).arg("-r").arg(site.lookaside()).arg(tree.path().join("tree")),
        );
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let block = documented(name, &tree.path().join("tree"), port);
        let folder = site.scratch(name);
        let at = |name: &str| folder.join(name).display().to_string();
        let conf = folder.join("conf");
        let mut command = match name {
            "nginx" => {
                let user = if rustix::process::getuid().is_root() { "user root;" } else { "" };
                let places: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                    .map(|what| format!("{what}_temp_path {};", at(what)))
                    .concat();
                let text = format!(
                    "{user} daemon off; pid {}; error_log {}; events {{}} http {{ access_log off; {places} {block} }}",
                    at("pid"),
                    at("error.log")
                );
                fs::write(&conf, text).unwrap();
                let mut command = testkit::command("nginx", &folder);
                command.arg("-e").arg(at("error.log"));
                command
            }
            _ => {
                let modules: String = ["mpm_event", "authz_core", "alias", "headers"]
                    .map(|module| format!("LoadModule {module}_module /usr/lib/apache2/modules/mod_{module}.so\n"))
                    .concat();
                let text = format!(
                    "ServerRoot {}\n{modules}PidFile {}\nErrorLog {}\nServerName localhost\nUser www-data\nGroup www-data\n{block}",
                    folder.display(),
                    at("pid"),
                    at("error.log")
                );
                fs::write(&conf, text).unwrap();
                let mut command = testkit::command("apache2", &folder);
                command.arg("-X");
                command
            }
        };
        let child = command.arg(if name == "nginx" { "-c" } else { "-f" }).arg(&conf).spawn().unwrap();
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let log = || fs::read_to_string(folder.join("error.log")).unwrap_or_default();
            assert!(began.elapsed() < Duration::from_secs(60), "{name} does not answer\n{}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
        Self { child, url: format!("http://127.0.0.1:{port}"), tree }
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        let id = self.child.id().to_string();
        let _ = std::process::Command::new("kill").args(["-TERM", &id]).status();
        let _ = self.child.wait();
    }
}

#[test]
fn web_servers_with_the_documented_configuration_serve_the_same() {
    if !need(&["docker-registry", "skopeo", "nginx", "apache2"]) {
        return;
    }
    let site = received();
    let path = path(&site);
    for name in ["nginx", "apache"] {
        let server = WebServer::start(&site, name);
        let folder = site.scratch("handed").join(name);
        let mut handover = site.import(&["handover", "production", "--lookaside-url", &server.url]);
        run(handover.arg(&folder).arg("--key-dir").arg(folder.join("keys"))).expect_code(0);
        let node = Node::new(&folder, site.scratch("node"));
        let image = format!("{}/{NAME}", site.production.host());
        node.takes(&image).expect_code(0);
        let get = |path: &str| Client::new(None, None).send("GET", &format!("{}{path}", server.url), &[], b"");
        let answer = get(&path);
        assert_eq!((answer.status, answer.headers["cache-control"].as_str()), (200, "no-cache"), "{name}");
        let tree = server.tree.path().join("tree");
        fs::write(tree.join("note"), "mine").unwrap();
        symlink(tree.join("note"), tree.join(&path[1..]).with_file_name("signature-2")).unwrap();
        let directory = path.strip_suffix("/signature-1").unwrap();
        let second = format!("{directory}/signature-2");
        for wrong in ["/", "/note", "/payments/", directory, &second, &format!("{directory}/signature-7")] {
            let status = get(wrong).status;
            // httpd says 403 of a link; a reader fails either way, and nothing is given away.
            let is_refused = status == 404 || (name == "apache" && wrong == second && status == 403);
            assert!(is_refused, "{name}: {wrong}: {status}");
        }
        fs::remove_dir_all(tree.join("payments")).unwrap();
        node.refuses(&image);
    }
}

#[test]
fn it_ends_when_it_is_told_to_and_says_when_it_cannot_begin() {
    if !need(Site::NEEDS) {
        return;
    }
    let site = Site::new();
    fs::create_dir_all(site.lookaside()).unwrap();
    let mut server = Server::start(&site, &[]);
    let taken = server.url.strip_prefix("http://").unwrap().to_string();
    run(&mut site.import(&["serve", "--listen", &taken]))
        .expect_code(1)
        .expect_stderr(&format!("{taken}: cannot be served"))
        .expect_stderr("--listen");
    let mut kill = testkit::command("kill", &site.scratch("kill"));
    testkit::run_ok(kill.args(["-TERM", &server.child.id().to_string()]));
    assert!(server.child.wait().unwrap().success());
}

/// A command under a umask that lets nobody else read.
fn umask(command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", "umask 077; exec \"$0\" \"$@\""]).arg(command.get_program()).args(command.get_args());
    shell.current_dir(command.get_current_dir().unwrap()).env_clear();
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell
}

#[test]
fn what_receive_makes_can_be_served_by_another_user() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    let parent = site.scratch("srv");
    let (tree, releases) = (parent.join("sealift/sigstore"), parent.join("sealift/releases"));
    site.import["production"]["lookaside"] = json!(tree);
    site.import["production"]["release_signatures"] = json!(releases);
    let bundle = site.packed(1);
    run(umask(&site.import(&["receive"])).arg(&bundle)).expect_code(0);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for folder in [&parent.join("sealift"), &tree, &tree.join("payments"), &releases] {
        assert_eq!(mode(folder), 0o755, "{}", folder.display());
    }
    assert_eq!(mode(&tree.join(&path(&site)[1..])), 0o644);
    // What was there stays as it is.
    fs::set_permissions(&tree, fs::Permissions::from_mode(0o750)).unwrap();
    run(umask(&site.import(&["receive"])).arg(site.packed(2))).expect_code(0);
    assert_eq!(mode(&tree), 0o750);
}

#[test]
fn folders_that_cannot_be_read_are_named_before_anything_is_served() {
    if !need(Site::NEEDS) {
        return;
    }
    let mut site = Site::new();
    // Where nothing can be served, so that it ends in any case.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let serve = |site: &Site| run(&mut site.import(&["serve", "--listen", &address]));
    let (tree, releases) = (site.lookaside(), site.scratch("srv").join("releases"));
    serve(&site).expect_code(2).expect_stderr("sigstore/: signatures cannot be read there");
    fs::create_dir_all(&tree).unwrap();
    drop(Server::start(&site, &[]));
    site.import["production"]["release_signatures"] = json!(releases);
    serve(&site).expect_code(2).expect_stderr(&format!("{}: signatures cannot be read there", releases.display()));
    // A file is no folder.
    fs::write(&releases, "").unwrap();
    serve(&site).expect_code(2).expect_stderr("mode 755");
}
