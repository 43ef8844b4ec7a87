//! Programs that tests run: Debian's and our own, each in an environment of its own.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// Whether all these programs are installed. If not: a panic on a CI machine (`CI` is set), elsewhere a printed line.
#[must_use = "a test returns if this is false"]
pub fn need(tools: &[&str]) -> bool {
    let missing: Vec<_> = tools.iter().copied().filter(|t| which(t).is_none()).collect();
    if missing.is_empty() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "not installed: {}", missing.join(", "));
    eprintln!("skipped: not installed: {}", missing.join(", "));
    false
}

fn which(tool: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(tool)).find(|path| path.is_file())
}

/// A command without the environment of this process: `PATH` stays, `HOME` and the XDG folders are below `home`.
pub fn command(program: impl AsRef<std::ffi::OsStr>, home: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear();
    // The second is how coverage builds name the files they write.
    for name in ["PATH", "LLVM_PROFILE_FILE", "RUST_BACKTRACE"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.envs([("HOME", home), ("TMPDIR", &std::env::temp_dir())]);
    for (name, folder) in [
        ("XDG_CONFIG_HOME", ".config"),
        ("XDG_STATE_HOME", ".local/state"),
        ("XDG_DATA_HOME", ".local/share"),
        ("XDG_CACHE_HOME", ".cache"),
        ("XDG_RUNTIME_DIR", ".run"),
    ] {
        command.env(name, home.join(folder));
    }
    command.envs([("LC_ALL", "C.UTF-8"), ("TZ", "UTC"), ("TERM", "dumb")]).stdin(Stdio::null());
    command
}

/// What a command did.
#[derive(Clone)]
pub struct Ran {
    pub command: String,
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// The standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("not JSON: {e}\n{self}"))
    }

    /// Stops the test unless the command ended with this code.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert!(self.code == Some(code), "expected exit code {code}\n{self}");
        self
    }

    /// Stops the test unless the standard output holds this text.
    #[track_caller]
    pub fn expect_stdout(self, text: &str) -> Self {
        assert!(self.stdout.contains(text), "expected `{text}` in the standard output\n{self}");
        self
    }

    /// Stops the test unless the standard error holds this text.
    #[track_caller]
    pub fn expect_stderr(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "expected `{text}` in the standard error\n{self}");
        self
    }
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\nexit code {:?}", self.command, self.code)?;
        writeln!(f, "--- stdout\n{}--- stderr\n{}---", self.stdout, self.stderr)
    }
}

impl fmt::Debug for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Runs a command to its end.
#[track_caller]
pub fn run(command: &mut Command) -> Ran {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let shown: Vec<_> =
        std::iter::once(command.get_program()).chain(command.get_args()).map(|a| a.to_string_lossy()).collect();
    Ran {
        command: shown.join(" "),
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs a command that must succeed.
#[track_caller]
pub fn run_ok(command: &mut Command) -> Ran {
    run(command).expect_code(0)
}

/// Runs a command that must fail: with an exit code that is not 0, not through a signal.
#[track_caller]
pub fn run_fails(command: &mut Command) -> Ran {
    let ran = run(command);
    assert!(ran.code.is_some_and(|c| c != 0), "expected a failure\n{ran}");
    ran
}

/// `sealift-export` as built beside the running test.
pub fn sealift_export(home: &Path) -> Command {
    command(built("sealift-export"), home)
}

/// `sealift-import` as built beside the running test.
pub fn sealift_import(home: &Path) -> Command {
    command(built("sealift-import"), home)
}

fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    // target/<profile>/deps/<test>
    let profile = test.parent().and_then(Path::parent).expect("a test below target/<profile>/deps");
    let program = profile.join(name);
    assert!(program.is_file(), "{} is missing: run `cargo build --workspace` first", program.display());
    program
}

/// GnuPG with a home folder of its own. Its agent is stopped at the end.
pub struct Gpg {
    home: TempDir,
}

impl Default for Gpg {
    fn default() -> Self {
        Self::new()
    }
}

impl Gpg {
    pub fn new() -> Self {
        use std::os::unix::fs::PermissionsExt;
        // A socket's path is short; the folder must be too.
        let home = tempfile::Builder::new().prefix("gpg").tempdir_in("/tmp").unwrap();
        std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        Self { home }
    }

    /// `GNUPGHOME`.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// `gpg --batch`, without a terminal and without a passphrase prompt.
    pub fn command(&self) -> Command {
        self.with_home("gpg", &["--batch", "--no-tty", "--pinentry-mode", "loopback"])
    }

    /// Another program that uses this keyring, such as `skopeo` or `gpgv`.
    pub fn with_home(&self, program: &str, args: &[&str]) -> Command {
        let mut command = command(program, self.home.path());
        command.env("GNUPGHOME", self.home.path()).args(args);
        command
    }

    /// A new key that signs with its primary key, without a passphrase; returns its fingerprint.
    pub fn generate(&self, user_id: &str, algorithm: &str) -> String {
        run_ok(self.command().args(["--passphrase", "", "--quick-generate-key", user_id, algorithm, "sign", "never"]));
        let listed = run_ok(self.command().args(["--with-colons", "--list-secret-keys", &format!("={user_id}")]));
        let fingerprint = listed.stdout.lines().find_map(|l| l.strip_prefix("fpr:")).expect("a fingerprint");
        fingerprint.trim_matches(':').into()
    }

    /// Takes in armored keys or certificates.
    pub fn import(&self, armored: &[u8]) -> Ran {
        let file = self.file("import", armored);
        run_ok(self.command().arg("--import").arg(file))
    }

    /// The armored certificate of a key.
    pub fn export(&self, key: &str) -> Vec<u8> {
        run_ok(self.command().args(["--armor", "--export", key])).stdout.into_bytes()
    }

    /// The armored secret key.
    pub fn export_secret(&self, key: &str) -> Vec<u8> {
        run_ok(self.command().args(["--armor", "--export-secret-keys", key])).stdout.into_bytes()
    }

    /// An armored detached signature.
    pub fn sign_detached(&self, key: &str, document: &[u8]) -> Vec<u8> {
        let file = self.file("document", document);
        let sign = ["--armor", "--local-user", key, "--output", "-", "--detach-sign"];
        run_ok(self.command().args(sign).arg(file)).stdout.into_bytes()
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.home.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        let _ = self.with_home("gpgconf", &["--kill", "all"]).output();
    }
}
