//! What is generated from the command itself: manual, completions, `.env.example`.

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
    let path = root().join("docs/command-line.md");
    let manual = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = manual.split_once("<!-- help -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- /help -->").unwrap();
    let current = format!("{before}<!-- help -->\n{reference}<!-- /help -->{after}");
    if manual != current {
        std::fs::write(&path, current).unwrap();
        panic!("docs/command-line.md was out of date and has been rewritten: check the difference and commit it");
    }
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
    let path = root().join(".env.example");
    if std::fs::read_to_string(&path).unwrap_or_default() != expected {
        std::fs::write(&path, expected).unwrap();
        panic!(".env.example was out of date and has been rewritten: check the difference and commit it");
    }
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
