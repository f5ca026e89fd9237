//! The house's rules: which crate may know which, and what stands where. ARCHITECTURE.md draws them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Each crate of ours with the crates of ours that it may know.
const MAY_KNOW: [(&str, &[&str]); 16] = [
    ("proxytorrent-domain", &[]),
    ("proxytorrent-settings", &["proxytorrent-domain"]),
    ("proxytorrent-telemetry", &["proxytorrent-settings"]),
    ("proxytorrent-metainfo", &["proxytorrent-domain"]),
    ("proxytorrent-ports", &["proxytorrent-domain"]),
    ("proxytorrent-embedded", &["proxytorrent-ports", "proxytorrent-domain"]),
    ("proxytorrent-aws", &["proxytorrent-ports", "proxytorrent-domain"]),
    ("proxytorrent-fetcher", &["proxytorrent-ports", "proxytorrent-settings", "proxytorrent-domain"]),
    (
        "proxytorrent-pipeline",
        &[
            "proxytorrent-fetcher",
            "proxytorrent-metainfo",
            "proxytorrent-ports",
            "proxytorrent-settings",
            "proxytorrent-domain",
        ],
    ),
    (
        "proxytorrent-api",
        &[
            "proxytorrent-fetcher",
            "proxytorrent-metainfo",
            "proxytorrent-ports",
            "proxytorrent-settings",
            "proxytorrent-domain",
        ],
    ),
    ("libtorrent-sys", &[]),
    (
        "proxytorrent-seeder",
        &[
            "libtorrent-sys",
            "proxytorrent-pipeline",
            "proxytorrent-ports",
            "proxytorrent-settings",
            "proxytorrent-domain",
        ],
    ),
    (
        "proxytorrent-seeder-container",
        &[
            "proxytorrent-aws",
            "proxytorrent-pipeline",
            "proxytorrent-ports",
            "proxytorrent-seeder",
            "proxytorrent-settings",
            "proxytorrent-telemetry",
        ],
    ),
    (
        "proxytorrent-functions",
        &[
            "proxytorrent-api",
            "proxytorrent-aws",
            "proxytorrent-fetcher",
            "proxytorrent-pipeline",
            "proxytorrent-ports",
            "proxytorrent-settings",
            "proxytorrent-telemetry",
            "proxytorrent-domain",
        ],
    ),
    (
        "proxytorrent",
        &[
            "proxytorrent-api",
            "proxytorrent-embedded",
            "proxytorrent-fetcher",
            "proxytorrent-pipeline",
            "proxytorrent-seeder",
            "proxytorrent-ports",
            "proxytorrent-settings",
            "proxytorrent-telemetry",
            "proxytorrent-domain",
        ],
    ),
    ("proxytorrent-bench", &["proxytorrent-metainfo", "proxytorrent-domain"]),
];

/// Crates that do I/O, which some of ours must not.
const IO: [&str; 6] = ["tokio", "reqwest", "sqlx", "axum", "rustix", "tempfile"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// The normal dependencies of every crate in the workspace.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let names = |package: &Value| {
        let all = package["dependencies"].as_array().expect("a list").iter();
        all.filter(|d| d["kind"].is_null()).map(|d| d["name"].as_str().expect("a name").to_owned()).collect()
    };
    let packages = metadata["packages"].as_array().expect("a list").iter();
    packages.map(|package| (package["name"].as_str().expect("a name").to_owned(), names(package))).collect()
}

#[test]
fn arrows_run_downwards_only() {
    let dependencies = dependencies();
    let known: BTreeMap<_, _> = MAY_KNOW.into_iter().collect();
    assert_eq!(dependencies.keys().map(String::as_str).collect::<BTreeSet<_>>(), known.keys().copied().collect());
    for (package, needs) in &dependencies {
        for need in needs.iter().filter(|need| known.contains_key(need.as_str())) {
            assert!(known[package.as_str()].contains(&need.as_str()), "{package} must not know {need}");
        }
    }
}

#[test]
fn what_is_to_do_no_io_cannot() {
    let dependencies = dependencies();
    for package in ["proxytorrent-domain", "proxytorrent-metainfo"] {
        for io in IO {
            assert!(!dependencies[package].contains(io), "{package} must not know {io}");
        }
    }
    for package in ["proxytorrent-api", "proxytorrent-pipeline"] {
        for foreign in ["sqlx", "aws-sdk-s3", "aws-sdk-dynamodb", "aws-sdk-sqs", "libtorrent-sys"] {
            assert!(!dependencies[package].contains(foreign), "{package} must not know {foreign}");
        }
    }
}

/// The Rust sources of every crate, by the crate's folder.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() && !matches!(name.as_str(), "target" | ".git" | ".tools" | "data") {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn unsafe_and_the_environment_have_one_place_each() {
    let mut found = vec![];
    sources(&root(), &mut found);
    assert!(found.len() > 50, "the sources are here");
    for path in found {
        let text = std::fs::read_to_string(&path).expect("text");
        let within = |folder: &str| path.starts_with(root().join(folder));
        let code = || text.lines().map(|line| line.split("//").next().unwrap_or_default());
        if !within("seeder/libtorrent-sys") {
            let word = ["un", "safe "].concat();
            assert!(!code().any(|line| line.contains(&word)), "{word}in {}", path.display());
        }
        if !within("shared/settings") {
            let call = ["env::", "var"].concat();
            assert!(!code().any(|line| line.contains(&call)), "{call} in {}", path.display());
        }
    }
}
