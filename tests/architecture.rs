//! Architecture tests: dependencies between crates, cycles between modules, code that must be in one crate only, and
//! documents that must match the code. ARCHITECTURE.md describes the architecture.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use domain::{
    Content, ContentHash, FetchRequest, FetchSpec, Method, Status, Timestamp, TorrentFormat, Transition, UserId,
};
use proxytorrent_tests::documents::{code_blocks, documents, keep_part};
use serde_json::Value;
use telemetry::metrics::METRICS;
use url::Url;

/// Each crate of the workspace: its name, the workspace crates that it depends on, and those that only its tests
/// depend on.
const ARROWS: [(&str, &[&str], &[&str]); 19] = [
    ("proxytorrent-domain", &[], &[]),
    ("proxytorrent-settings", &["proxytorrent-domain"], &[]),
    ("proxytorrent-telemetry", &["proxytorrent-settings"], &[]),
    ("proxytorrent-metainfo", &["proxytorrent-domain"], &[]),
    ("proxytorrent-ports", &["proxytorrent-domain"], &[]),
    ("proxytorrent-sql", &["proxytorrent-domain", "proxytorrent-ports"], &[]),
    ("proxytorrent-embedded", &["proxytorrent-domain", "proxytorrent-ports", "proxytorrent-sql"], &[]),
    (
        "proxytorrent-postgres",
        &["proxytorrent-domain", "proxytorrent-ports", "proxytorrent-sql"],
        &["proxytorrent-tests"],
    ),
    ("proxytorrent-aws", &["proxytorrent-domain", "proxytorrent-ports"], &["proxytorrent-tests"]),
    ("proxytorrent-fetcher", &["proxytorrent-domain", "proxytorrent-ports", "proxytorrent-settings"], &[]),
    (
        "proxytorrent-pipeline",
        &[
            "proxytorrent-domain",
            "proxytorrent-fetcher",
            "proxytorrent-metainfo",
            "proxytorrent-ports",
            "proxytorrent-settings",
        ],
        &["proxytorrent-embedded", "proxytorrent-seeder"],
    ),
    (
        "proxytorrent-api",
        &["proxytorrent-domain", "proxytorrent-metainfo", "proxytorrent-ports", "proxytorrent-settings"],
        &[],
    ),
    ("libtorrent-sys", &[], &[]),
    (
        "proxytorrent-seeder",
        &["libtorrent-sys", "proxytorrent-domain", "proxytorrent-ports", "proxytorrent-settings"],
        &["proxytorrent-embedded", "proxytorrent-metainfo"],
    ),
    (
        "proxytorrent-seeder-container",
        &[
            "proxytorrent-api",
            "proxytorrent-aws",
            "proxytorrent-pipeline",
            "proxytorrent-ports",
            "proxytorrent-seeder",
            "proxytorrent-settings",
            "proxytorrent-telemetry",
        ],
        &["proxytorrent-tests"],
    ),
    (
        "proxytorrent-functions",
        &[
            "proxytorrent-api",
            "proxytorrent-aws",
            "proxytorrent-domain",
            "proxytorrent-fetcher",
            "proxytorrent-pipeline",
            "proxytorrent-ports",
            "proxytorrent-settings",
            "proxytorrent-telemetry",
        ],
        &["proxytorrent-seeder", "proxytorrent-tests"],
    ),
    (
        "proxytorrent",
        &[
            "proxytorrent-api",
            "proxytorrent-domain",
            "proxytorrent-embedded",
            "proxytorrent-fetcher",
            "proxytorrent-metainfo",
            "proxytorrent-pipeline",
            "proxytorrent-ports",
            "proxytorrent-postgres",
            "proxytorrent-seeder",
            "proxytorrent-settings",
            "proxytorrent-telemetry",
        ],
        &["proxytorrent-tests"],
    ),
    (
        "proxytorrent-tests",
        &["proxytorrent-aws", "proxytorrent-domain", "proxytorrent-metainfo"],
        &["proxytorrent-telemetry"],
    ),
    (
        "proxytorrent-bench",
        &[
            "proxytorrent-aws",
            "proxytorrent-domain",
            "proxytorrent-metainfo",
            "proxytorrent-ports",
            "proxytorrent-seeder",
            "proxytorrent-settings",
            "proxytorrent-tests",
        ],
        &[],
    ),
];

/// External crates that do I/O. `proxytorrent-domain` and `proxytorrent-metainfo` must not depend on them.
const IO: [&str; 6] = ["tokio", "reqwest", "sqlx", "axum", "rustix", "tempfile"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// Returns the dependencies of every crate in the workspace: the normal ones, and those that only tests use.
fn dependencies() -> BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let names = |package: &Value, kind: &Value| -> BTreeSet<String> {
        let all = package["dependencies"].as_array().expect("a list").iter();
        all.filter(|d| d["kind"] == *kind).map(|d| d["name"].as_str().expect("a name").to_owned()).collect()
    };
    let of = |package: &Value| {
        let normal = names(package, &Value::Null);
        let tests = names(package, &"dev".into()).difference(&normal).cloned().collect();
        (package["name"].as_str().expect("a name").to_owned(), (normal, tests))
    };
    metadata["packages"].as_array().expect("a list").iter().map(of).collect()
}

#[test]
fn crates_depend_only_on_the_listed_crates() {
    let dependencies = dependencies();
    let ours: BTreeSet<_> = ARROWS.iter().map(|(name, ..)| *name).collect();
    assert_eq!(dependencies.keys().map(String::as_str).collect::<BTreeSet<_>>(), ours);
    let only_ours = |all: &BTreeSet<String>| -> Vec<String> {
        all.iter().filter(|name| ours.contains(name.as_str())).cloned().collect()
    };
    for (name, normal, tests) in ARROWS {
        let (has, has_in_tests) = &dependencies[name];
        assert_eq!(only_ours(has), normal, "{name}");
        assert_eq!(only_ours(has_in_tests), tests, "tests of {name}");
    }
}

#[test]
fn crates_without_io_have_no_io_dependencies() {
    let dependencies = dependencies();
    for package in ["proxytorrent-domain", "proxytorrent-metainfo"] {
        for io in IO {
            assert!(!dependencies[package].0.contains(io), "{package} must not depend on {io}");
        }
    }
    for package in ["proxytorrent-api", "proxytorrent-pipeline"] {
        for foreign in ["sqlx", "aws-sdk-s3", "aws-sdk-dynamodb", "aws-sdk-sqs", "libtorrent-sys"] {
            assert!(!dependencies[package].0.contains(foreign), "{package} must not depend on {foreign}");
        }
    }
}

/// Adds the paths of all Rust sources below `folder` to `found`.
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
fn unsafe_code_and_environment_access_are_confined_to_one_crate_each() {
    let mut found = vec![];
    sources(&root(), &mut found);
    assert!(found.len() > 50, "expected more than 50 source files");
    for path in found {
        let text = std::fs::read_to_string(&path).expect("text");
        let within = |folder: &str| path.starts_with(root().join(folder));
        let code = || text.lines().map(|line| line.split("//").next().unwrap_or_default());
        if !within("seeder/libtorrent-sys") {
            let word = ["un", "safe "].concat();
            assert!(!code().any(|line| line.contains(&word)), "{word}in {}", path.display());
        }
        // Build scripts read the variables that Cargo sets.
        if !within("shared/settings") && !path.ends_with("build.rs") {
            let call = ["env::", "var"].concat();
            assert!(!code().any(|line| line.contains(&call)), "{call} in {}", path.display());
        }
    }
}

/// Returns the source of a file without comments and unit tests.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).expect("text");
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    code.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// Returns the names that are declared as `mod name;`.
fn declared_modules(code: &str) -> BTreeSet<String> {
    let declared =
        code.lines().filter_map(|line| line.trim().strip_suffix(';')?.rsplit_once("mod ").map(|(_, name)| name));
    declared.filter(|name| name.chars().all(|c| c.is_alphanumeric() || c == '_')).map(str::to_owned).collect()
}

/// Returns the first segments of all paths below `prefix`: each `name` in `prefix::name::...` and
/// `prefix::{name, ...}`.
fn segments_below(code: &str, prefix: &str) -> BTreeSet<String> {
    let start = format!("{prefix}::");
    let word = |text: &str| -> String { text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices(&start) {
        let rest = &code[at + start.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.insert(word(rest));
            continue;
        };
        let (mut depth, mut item) = (1, String::new());
        for c in group.chars() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 || depth == 1 && c == ',' {
                found.insert(word(item.trim()));
                item.clear();
            } else {
                item.push(c);
            }
            if depth == 0 {
                break;
            }
        }
    }
    found
}

/// Returns the items that a module re-exports from its children, each with the name of the child.
fn reexports(code: &str, children: &BTreeSet<String>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for child in children {
        for statement in code.split(';').filter(|statement| statement.contains("use ")) {
            for name in segments_below(statement, child) {
                found.insert(name, child.clone());
            }
        }
    }
    found
}

/// Adds the cycles between the modules of one folder, and of the folders below it, to `cycles`. `root_file` declares
/// the modules of the folder; `path` is its module path below `crate`.
fn check_cycles(folder: &Path, root_file: &Path, path: &[String], cycles: &mut Vec<String>) {
    let root_code = code(root_file);
    let children = declared_modules(&root_code);
    let reexported = reexports(&root_code, &children);
    let mut edges = BTreeMap::new();
    for child in &children {
        let mut files = vec![];
        let file = folder.join(format!("{child}.rs"));
        if file.exists() {
            files.push(file);
        }
        let below = folder.join(child);
        if below.is_dir() {
            sources(&below, &mut files);
            let module = below.join("mod.rs");
            if module.exists() {
                check_cycles(&below, &module, &[path, std::slice::from_ref(child)].concat(), cycles);
            }
        }
        let mut targets = BTreeSet::new();
        for file in files {
            let text = code(&file);
            let mut names = segments_below(&text, &[&["crate".to_owned()], path].concat().join("::"));
            if file.parent() == Some(folder) && !path.is_empty() {
                names.extend(segments_below(&text, "super"));
            }
            for name in names {
                let target = if children.contains(&name) { Some(&name) } else { reexported.get(&name) };
                targets.extend(target.filter(|target| *target != child).cloned());
            }
        }
        edges.insert(child.clone(), targets);
    }
    // A module whose targets are all removed is in no cycle. The modules that cannot be removed contain a cycle.
    loop {
        let removable = edges.iter().find(|(_, targets)| targets.iter().all(|target| !edges.contains_key(target)));
        let Some(name) = removable.map(|(name, _)| name.clone()) else { break };
        edges.remove(&name);
    }
    if !edges.is_empty() {
        cycles.push(format!("{}: {:?}", root_file.display(), edges.keys().collect::<Vec<_>>()));
    }
}

#[test]
fn modules_have_no_cycles() {
    let mut found = vec![];
    sources(&root(), &mut found);
    let roots = found.iter().filter(|path| path.ends_with("src/lib.rs") || path.ends_with("src/main.rs"));
    let mut cycles = vec![];
    for file in roots {
        check_cycles(file.parent().expect("a folder"), file, &[], &mut cycles);
    }
    assert!(cycles.is_empty(), "{cycles:#?}");
}

#[test]
fn the_module_parser_finds_all_references() {
    let code = "use crate::a::B;\nuse crate::{c, d::{e, f}};\nlet x = crate::g();";
    let expected = ["a", "c", "d", "g"].map(str::to_owned);
    assert_eq!(segments_below(code, "crate"), expected.into());
    let children = declared_modules("mod a;\npub(crate) mod b;\nmod inline {}");
    assert_eq!(children, ["a", "b"].map(str::to_owned).into());
    let reexported = reexports("mod a;\npub use a::{One, Two};", &children);
    assert_eq!(reexported.get("Two").map(String::as_str), Some("a"));
}

/// Checks every path in backquotes that has a slash and starts with a folder of the workspace.
#[test]
fn the_paths_in_the_documents_exist() {
    for document in ["ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"] {
        let text = std::fs::read_to_string(root().join(document)).expect("text");
        let prose: String = text.split("```").step_by(2).collect();
        for name in prose.split('`').skip(1).step_by(2) {
            let top = name.split('/').next().unwrap_or_default();
            let looks_like_a_path = name.contains('/')
                && ["shared", "cli", "seeder", "functions", "bench", "infra", "docs", "events", "scripts", "tests"]
                    .contains(&top)
                && !name.contains(['{', '*', ' ', '<']);
            if looks_like_a_path {
                assert!(root().join(name.trim_end_matches('/')).exists(), "{document}: {name} does not exist");
            }
        }
    }
}

/// Returns the anchor of a heading, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().replace(' ', "-");
    kept.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()
}

#[test]
fn the_links_between_the_documents_lead_to_existing_headings() {
    let read =
        |path: &Path| std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut found = 0;
    for document in documents() {
        let path = root().join(&document);
        let text = read(&path);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let Some((file, target)) = link.split_once('#').filter(|_| !link.contains("://")) else { continue };
            let of = if file.is_empty() { path.clone() } else { path.with_file_name("").join(file) };
            let headings = read(&of);
            let mut headings = headings.lines().filter(|line| line.starts_with('#'));
            let leads = headings.any(|line| anchor(line.trim_start_matches('#').trim_start()) == target);
            assert!(leads, "{document}: {link}");
            found += 1;
        }
    }
    assert!(found > 50, "{found} links");
}

/// A command that works on the source tree cannot run inside a test, so its targets, package and test are looked up.
#[test]
fn the_make_targets_packages_and_tests_in_the_documents_exist() {
    let makefile = std::fs::read_to_string(root().join("Makefile")).expect("text");
    let mut files = vec![];
    sources(&root().join("tests"), &mut files);
    let sources: String = files.iter().map(|path| std::fs::read_to_string(path).expect("text")).collect();
    let mut found = 0;
    for document in documents() {
        for line in code_blocks(&document, "sh").iter().flat_map(|block| block.lines()) {
            let words: Vec<_> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
            let exists = match words.as_slice() {
                // Variables follow the targets.
                ["make", targets @ ..] => {
                    let mut targets = targets.iter().take_while(|word| !word.contains('='));
                    targets.all(|target| makefile.contains(&format!("\n{target}:")))
                }
                ["cargo", "nextest", "run", arguments @ ..] => arguments.iter().all(|argument| {
                    let (package, name) =
                        (ARROWS.iter().any(|(name, ..)| name == argument), argument.trim_end_matches("::"));
                    let is_option = argument.starts_with("--") || *argument == "e2e";
                    let is_test = ["fn", "mod"].iter().any(|kind| sources.contains(&format!("{kind} {name}")));
                    package || is_option || is_test
                }),
                _ => continue,
            };
            assert!(exists, "{document}: {line}");
            found += 1;
        }
    }
    assert!(found > 10, "{found} commands");
}

/// Returns the table of transitions as Markdown.
fn transitions() -> String {
    let now = Timestamp::from_millis(1_800_000_000_000);
    let url: Url = "https://example.org/".parse().expect("a URL");
    let spec = FetchSpec {
        url: url.clone(),
        method: Method::Get,
        headers: vec![],
        body: None,
        sha256: None,
        format: TorrentFormat::V1,
        ttl: Duration::from_secs(60),
        callback_url: None,
        webseed: true,
    };
    let row = FetchRequest::new(UserId::anonymous(), None, spec, Duration::from_secs(60), now);
    let content = Content {
        hash: ContentHash::new([1; 32]),
        size: 1,
        media_type: "text/plain".parse().unwrap(),
        file_name: domain::FileName::sanitize("a").unwrap(),
        final_url: url,
        origin_status: 200,
        fetched_at: now,
    };
    let examples = Transition::examples(&row, &content, now);
    let mut text = "| From | To | Transitions |\n|---|---|---|\n".to_owned();
    for &from in Status::ALL {
        for &to in Status::ALL {
            let between = examples.iter().filter(|t| t.starts_from(from) && t.to.unwrap_or(from) == to);
            let mut names: Vec<_> = between.map(|transition| format!("`{}`", transition.name)).collect();
            names.dedup();
            if !names.is_empty() {
                writeln!(text, "| {from} | {to} | {} |", names.join(", ")).expect("written");
            }
        }
    }
    text
}

#[test]
fn every_metric_in_the_code_is_in_the_table() {
    let mut files = vec![];
    sources(&root(), &mut files);
    let mut used = BTreeSet::new();
    for path in files
        .iter()
        .filter(|path| !path.to_string_lossy().contains("/tests/") && !path.ends_with("telemetry/src/metrics.rs"))
    {
        let text = code(path);
        for start in ["counter!(", "gauge!(", "histogram!("] {
            for (at, _) in text.match_indices(start) {
                let name =
                    text[at + start.len()..].trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next());
                used.extend(name.map(str::to_owned));
            }
        }
    }
    let listed: BTreeSet<_> = METRICS.iter().map(|metric| metric.name.to_owned()).collect();
    assert!(used.len() > 5 && used.is_subset(&listed), "{:?}", used.difference(&listed));
}

#[test]
fn the_documents_show_the_current_state_machine_and_metrics() {
    keep_part("ARCHITECTURE.md", "transitions", &transitions());
    keep_part("docs/operations.md", "metrics", &telemetry::metrics::table());
}

/// Returns the words of a PromQL expression that are metrics, without the suffix of a histogram's buckets.
fn metrics_in(expression: &str) -> Vec<&str> {
    let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("proxytorrent_")).map(|word| word.trim_end_matches("_bucket")).collect()
}

#[test]
fn the_dashboard_shows_existing_metrics_by_existing_labels() {
    let text = std::fs::read_to_string(root().join("infra/grafana/dashboard.json")).expect("text");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    assert!(panels.len() > 10);
    for target in panels.iter().flat_map(|panel| panel["targets"].as_array().expect("targets")) {
        let expression = target["expr"].as_str().expect("an expression");
        let [name] = metrics_in(expression)[..] else { panic!("{expression} must have one metric") };
        let metric = METRICS.iter().find(|metric| metric.name == name);
        let metric = metric.unwrap_or_else(|| panic!("there is no metric {name}"));
        let labels = expression.split_once(" by (").map_or("", |(_, rest)| rest.split(')').next().unwrap_or_default());
        for label in labels.split(',').map(str::trim).filter(|label| !["", "le"].contains(label)) {
            assert!(metric.labels.contains(&label), "{name} has no label {label}");
        }
    }
}
