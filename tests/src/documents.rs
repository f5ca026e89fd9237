//! The documentation: its command blocks, which tests run, and its parts that are generated.

use std::path::Path;

use crate::process::root;

/// Returns the code blocks in this language of a document of the workspace, in order.
pub fn code_blocks(document: &str, language: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join(document)).unwrap_or_else(|error| panic!("{document}: {error}"));
    let start = format!("```{language}\n");
    text.split(&start).skip(1).map(|block| block.split("```").next().expect("a block").to_owned()).collect()
}

/// Returns the documents in the root folder and in `docs/`.
pub fn documents() -> Vec<String> {
    let in_folder = |folder: &str| {
        let names = std::fs::read_dir(root().join(folder)).expect("a folder");
        let names = names.map(|entry| entry.expect("an entry").file_name().into_string().expect("text"));
        names
            .filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "md"))
            .map(|name| format!("{folder}{name}"))
            .collect::<Vec<_>>()
    };
    [in_folder(""), in_folder("docs/")].concat()
}

/// Checks a generated file of the workspace. If it is not `expected`, writes it, so that the change shows in the diff,
/// and panics.
pub fn keep_file(document: &str, expected: &str) {
    let path = root().join(document);
    if std::fs::read_to_string(&path).unwrap_or_default() != expected {
        std::fs::write(&path, expected).expect("written");
        panic!("{document} was out of date and has been rewritten: check the difference and commit it");
    }
}

/// As [`keep_file`], for the text between the markers `<!-- part -->` and `<!-- /part -->` of a document.
pub fn keep_part(document: &str, part: &str, expected: &str) {
    let text = std::fs::read_to_string(root().join(document)).unwrap_or_else(|error| panic!("{document}: {error}"));
    let (start, end) = (format!("<!-- {part} -->\n"), format!("<!-- /{part} -->"));
    let (before, rest) = text.split_once(&start).expect("the first marker");
    let (_, after) = rest.split_once(&end).expect("the second marker");
    keep_file(document, &format!("{before}{start}{expected}{end}{after}"));
}

/// One command of a `console` block, with its documented output.
#[derive(Debug)]
pub struct Command {
    /// The command, without its prompt `$ ` and its comment.
    pub line: String,
    /// The comment after the command.
    pub comment: String,
    /// The lines of output. `…` stands for any text.
    pub output: Vec<String>,
}

/// Returns the commands of a `console` block.
pub fn commands(block: &str) -> Vec<Command> {
    let mut commands: Vec<Command> = vec![];
    for line in block.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            let (command, comment) = command.split_once("     # ").unwrap_or((command, ""));
            commands.push(Command { line: command.into(), comment: comment.into(), output: vec![] });
        } else {
            commands.last_mut().expect("a command before its output").output.push(line.into());
        }
    }
    commands
}

/// Whether some line of `output` has all parts of `expected` between its `…`, in order.
pub fn shows(output: &str, expected: &str) -> bool {
    let in_order = |line: &str| {
        expected.split('…').try_fold(line, |rest, part| rest.find(part).map(|at| &rest[at + part.len()..])).is_some()
    };
    output.lines().any(in_order)
}
