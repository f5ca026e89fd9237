//! A container image that `scripts/build-images` has built.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::process::root;

/// The user of the images.
const USER: u32 = 10001;

/// An image whose program runs in its root file system, without a container engine. Needs root.
#[derive(Debug)]
pub struct Image {
    container: String,
    root: PathBuf,
    /// The configuration of the image (`config` in the specification of Docker's images).
    pub config: Value,
}

fn buildah(arguments: &[&str]) -> String {
    let storage = root().join(".tools/images");
    let mut command = Command::new("buildah");
    command.arg("--root").arg(storage.join("root")).arg("--runroot").arg(storage.join("run")).args(arguments);
    let output = command.output().expect("buildah runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

impl Image {
    /// Mounts the root file system of an image.
    pub fn open(name: &str) -> Self {
        let container = buildah(&["from", name]);
        let root = PathBuf::from(buildah(&["mount", &container]));
        let inspected: Value = serde_json::from_str(&buildah(&["inspect", "--type", "image", name])).expect("JSON");
        Self { container, root, config: inspected["Docker"]["config"].clone() }
    }

    /// Writes a script that runs the image's program, in place of its first argument, with the other ones. The root file
    /// system is read-only, as with `docker run --read-only`; `volume` is that of the image.
    pub fn script(&self, script: &Path, volume: &Path) -> PathBuf {
        let texts = |value: &Value| -> Vec<String> {
            let items = value.as_array().into_iter().flatten();
            items.map(|item| item.as_str().expect("text").to_owned()).collect()
        };
        let config = &self.config;
        assert_eq!(config["User"], format!("{USER}:{USER}"));
        let mounted = config["WorkingDir"].as_str().expect("a folder");
        assert!(config["Volumes"].get(mounted).is_some(), "{mounted} must be the volume");
        fs::create_dir_all(volume).expect("created");
        chown(volume, Some(USER), Some(USER)).expect("owned by the image's user");
        // The image's PATH, and other variables unless the caller sets them.
        let (paths, variables): (Vec<_>, Vec<_>) =
            texts(&config["Env"]).into_iter().partition(|entry| entry.starts_with("PATH="));
        let environment = variables.iter().map(|entry| {
            let (name, value) = entry.split_once('=').expect("a variable");
            format!("export {name}=\"${{{name}:-{value}}}\"\n")
        });
        let text = format!(
            "#!/bin/sh\nset -e\nshift\n{environment}\
             exec unshare --mount sh -ec '\n\
             mount --bind {root} {root}\n\
             mount -o remount,bind,ro {root}\n\
             mount --bind {volume} {root}{mounted}\n\
             mount -t proc proc {root}/proc\n\
             exec chroot --userspec={USER}:{USER} {root} env --chdir={mounted} {path} {program} \"$@\"' sh \"$@\"\n",
            environment = environment.collect::<String>(),
            path = paths.join(" "),
            root = self.root.display(),
            volume = volume.display(),
            program = texts(&config["Entrypoint"]).join(" "),
        );
        fs::write(script, text).expect("written");
        fs::set_permissions(script, fs::Permissions::from_mode(0o755)).expect("executable");
        script.to_owned()
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        buildah(&["rm", &self.container]);
    }
}
