//! A node of a cluster, played by stock skopeo and podman: it takes what a policy.json and a registries.d let it take.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Ran, command, run};

/// A node with the files of a folder: `policy.json` and `registries.d/`, wherever they say the keys are.
pub struct Node {
    files: PathBuf,
    home: PathBuf,
    /// A containers-registries.conf(5) in place of the machine's.
    registries: Option<PathBuf>,
}

impl Node {
    /// A node with these files; it has `home` for itself.
    pub fn new(files: impl Into<PathBuf>, home: impl Into<PathBuf>) -> Self {
        let node = Self { files: files.into(), home: home.into(), registries: None };
        fs::create_dir_all(&node.home).unwrap();
        node
    }

    /// The same with mirrors.
    pub fn with_registries(self, registries: impl Into<PathBuf>) -> Self {
        Self { registries: Some(registries.into()), ..self }
    }

    /// Whether skopeo copies the image of its own platform.
    #[track_caller]
    pub fn takes(&self, image: &str) -> Ran {
        self.skopeo(image, &[])
    }

    /// Whether skopeo copies the image with all its platforms, and podman pulls it. They must agree.
    #[track_caller]
    pub fn pulls(&self, image: &str) -> Ran {
        let (skopeo, podman) = (self.skopeo(image, &["--all"]), self.podman(image));
        assert_eq!(skopeo.code == Some(0), podman.code == Some(0), "they differ\n{skopeo}\n{podman}");
        skopeo
    }

    /// The policy refuses the image.
    #[track_caller]
    pub fn refuses(&self, image: &str) -> Ran {
        let ran = self.takes(image).expect_code(1);
        assert!(ran.stderr.contains("Source image rejected"), "it is refused for another reason\n{ran}");
        ran
    }

    fn skopeo(&self, image: &str, args: &[&str]) -> Ran {
        let to = tempfile::tempdir_in(&self.home).unwrap();
        let mut command = command("skopeo", &self.home);
        if let Some(registries) = &self.registries {
            command.arg("--registries-conf").arg(registries);
        }
        command.arg("--policy").arg(self.files.join("policy.json"));
        command.arg("--registries.d").arg(self.files.join("registries.d"));
        command.args(["copy", "-q", "--src-tls-verify=false", "--remove-signatures"]).args(args);
        run(command.args([format!("docker://{image}"), format!("dir:{}", to.path().display())]))
    }

    fn podman(&self, image: &str) -> Ran {
        // It takes both from the user's folders.
        let config = self.home.join(".config/containers");
        let _ = fs::remove_dir_all(&config);
        fs::create_dir_all(config.join("registries.d")).unwrap();
        fs::copy(self.files.join("policy.json"), config.join("policy.json")).unwrap();
        copy_files(&self.files.join("registries.d"), &config.join("registries.d"));
        // Its names may not be long.
        let storage = tempfile::Builder::new().prefix("p").tempdir().unwrap();
        let at = |name: &str| storage.path().join(name).display().to_string();
        let mut command = command("podman", &self.home);
        if let Some(registries) = &self.registries {
            command.env("CONTAINERS_REGISTRIES_CONF", registries);
        }
        run(command.args(["--root", &at("root"), "--runroot", &at("run"), "--storage-driver", "vfs"]).args([
            "pull",
            "--quiet",
            "--tls-verify=false",
            &format!("docker://{image}"),
        ]))
    }
}

fn copy_files(from: &Path, to: &Path) {
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}
