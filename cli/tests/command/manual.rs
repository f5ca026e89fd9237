//! What is generated from the command itself: manual pages, references, completions, `.env.example`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use tests::documents::{keep_file, keep_part};
use tests::root;
use tokio::process::Command;

use crate::{proxytorrent, text};

#[tokio::test]
async fn the_manual_pages_have_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let output = proxytorrent(folder.path(), &["man", "pages"], &[]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let help = text(&proxytorrent(folder.path(), &["--help"], &[]).await.stdout);
    let commands = commands(&help);
    assert!(commands.len() > 15, "{help}");
    for name in commands {
        let page = folder.path().join(format!("pages/proxytorrent-{name}.1"));
        assert!(std::fs::read_to_string(&page).unwrap().contains(".SH SYNOPSIS"), "{name}");
    }
}

#[tokio::test]
async fn the_reference_in_the_manual_is_that_of_help() {
    let folder = tempfile::tempdir().unwrap();
    let help = async |arguments: &[&str]| {
        let output = proxytorrent(folder.path(), arguments, &[]).await;
        text(&output.stdout).lines().map(str::trim_end).collect::<Vec<_>>().join("\n").trim().to_owned()
    };
    let overview = help(&["--help"]).await;
    let mut reference = format!("```text\n{overview}\n```\n");
    for command in commands(&overview) {
        let text = help(&[command, "--help"]).await;
        reference.extend(["\n### ", command, "\n\n```text\n", &text, "\n```\n"]);
    }
    keep_part("docs/command-line.md", "help", &reference);
}

/// Returns the names of the commands in the help.
fn commands(help: &str) -> Vec<&str> {
    let commands = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let first_lines = commands.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    first_lines.map(|line| line.split_whitespace().next().unwrap()).filter(|name| *name != "help").collect()
}

#[tokio::test]
async fn the_example_of_an_env_file_has_every_setting() {
    let folder = tempfile::tempdir().unwrap();
    let output = proxytorrent(folder.path(), &["config"], &[]).await;
    // Without settings the production profile is not valid, but is printed.
    assert_eq!(output.status.code(), Some(2));
    let head = "# Every setting of ProxyTorrent, with its default. Copy this file to .env and set what you need.\n\
                # `proxytorrent config` writes it, with the present values.\n\n";
    let expected = head.to_owned() + &text(&output.stdout);
    keep_file(".env.example", &expected);
}

/// A setting, as `proxytorrent config` prints it.
struct Setting<'a> {
    name: &'a str,
    default: &'a str,
    documentation: &'a str,
    allowed: &'a str,
}

/// Returns the sections of the output of `proxytorrent config`, each with its settings.
fn settings(printed: &str) -> Vec<(&str, Vec<Setting<'_>>)> {
    let mut sections: Vec<(&str, Vec<Setting<'_>>)> = vec![];
    for block in printed.split("\n\n").map(str::trim).filter(|block| !block.is_empty()) {
        if let Some(name) = block.strip_prefix("# ==== ") {
            sections.push((name.trim_end_matches(" ===="), vec![]));
            continue;
        }
        let lines: Vec<_> = block.lines().map(|line| line.trim_start_matches("# ")).collect();
        let [documentation, allowed, assignment] = lines[..] else { panic!("{block}") };
        let (name, default) = assignment.trim_start_matches('#').split_once('=').expect("an assignment");
        let setting = Setting { name, default, documentation, allowed };
        sections.last_mut().expect("a section").1.push(setting);
    }
    sections
}

#[tokio::test]
async fn the_reference_of_settings_has_every_setting() {
    let folder = tempfile::tempdir().unwrap();
    let printed = async |arguments: &[&str]| text(&proxytorrent(folder.path(), arguments, &[]).await.stdout);
    let (production, development) = (printed(&["config"]).await, printed(&["config", "--dev"]).await);
    let in_development: BTreeMap<_, _> =
        settings(&development).into_iter().flat_map(|(_, all)| all).map(|one| (one.name, one.default)).collect();
    let mut reference = "# Reference of settings\n\n\
         Every setting, from `proxytorrent config`. [Configuration](configuration.md) explains where settings come from and \
         how some\nof them work together. A value is the default; `-` is none.\n"
        .to_owned();
    for (section, all) in settings(&production) {
        let title = section.replace('_', " ").to_lowercase();
        let title = title[..1].to_uppercase() + &title[1..];
        writeln!(reference, "\n## {title}\n\n| Setting | Default | Meaning | Allowed |\n|---|---|---|---|").unwrap();
        for Setting { name, default, documentation, allowed } in all {
            let shown = |value: &str| match value {
                "" => "-".to_owned(),
                // A long list would make the table unreadable.
                value if value.len() > 100 => "a long list".to_owned(),
                value => format!("`{value}`"),
            };
            let mut default_text = shown(default);
            if in_development[name] != default && name != "PROFILE" {
                write!(default_text, "; in development {}", shown(in_development[name])).unwrap();
            }
            let cell = |text: &str| text.replace('|', "\\|").replace('<', "&lt;");
            let (documentation, allowed) = (cell(documentation), cell(allowed));
            writeln!(reference, "| `{name}` | {default_text} | {documentation} | {allowed} |").unwrap();
        }
    }
    keep_file("docs/settings.md", &reference);
}

/// The table of contents of mdBook.
#[test]
fn the_summary_of_the_manual_has_every_page() {
    let summary = std::fs::read_to_string(root().join("docs/SUMMARY.md")).unwrap();
    let linked: BTreeSet<_> =
        summary.split("](").skip(1).map(|rest| rest.split(')').next().unwrap().to_owned()).collect();
    let names = std::fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().file_name());
    let pages: BTreeSet<_> = names
        .map(|name| name.into_string().unwrap())
        .filter(|name| name.strip_suffix(".md").is_some_and(|page| page != "SUMMARY"))
        .collect();
    assert_eq!(linked, pages);
}

#[tokio::test]
async fn bash_completes_the_commands() {
    let folder = tempfile::tempdir().unwrap();
    let script = proxytorrent(folder.path(), &["completions", "bash"], &[]).await;
    assert_eq!(script.status.code(), Some(0), "{}", text(&script.stderr));
    std::fs::write(folder.path().join("script"), &script.stdout).unwrap();
    let asked = "source ./script; COMP_WORDS=(proxytorrent get --no); COMP_CWORD=2; _proxytorrent proxytorrent --no get; \
                 echo \"${COMPREPLY[*]}\"";
    let output = Command::new("bash").args(["-c", asked]).current_dir(folder.path()).output().await.unwrap();
    assert_eq!(text(&output.stdout).trim(), "--no-wait --no-webseed", "{}", text(&output.stderr));
}
