//! Which test uses each code block of the documentation.

use std::collections::BTreeSet;

use proxytorrent_tests::documents::{code_blocks, documents};
use proxytorrent_tests::root;

/// How a code block is tested.
enum Tested {
    /// This test in this file uses the block.
    By(&'static str, &'static str),
    /// The block cannot run in a test, for this reason.
    Not(&'static str),
}
use Tested::{By, Not};

const DOCUMENTS: &str = "tests/e2e/documents.rs";
const TEMPLATE: &str = "functions/tests/aws/template.rs";
/// It reads every document.
const ARCHITECTURE: &str = "tests/architecture.rs";
/// Blocks that build the workspace. The targets, packages and tests that they name are looked up.
const BUILDS: Tested = By(ARCHITECTURE, "the_make_targets_packages_and_tests_in_the_documents_exist");
const NEEDS_SYSTEMD: Tested = Not("needs a machine with systemd; `packages` verifies the service");

/// Each code block by its document and how it begins. Blocks of `text` are generated.
const BLOCKS: &[(&str, &str, Tested)] = &[
    ("README.md", "make run ", BUILDS),
    ("README.md", "$ mkdir -p tour", By(DOCUMENTS, "the_tour_of_the_readme_works_as_it_is_shown")),
    ("README.md", "$ target/release/proxytorrent get", By(DOCUMENTS, "the_tour_of_the_readme_works_as_it_is_shown")),
    ("README.md", "scripts/setup build", By(DOCUMENTS, "the_env_file_of_the_readme_configures_a_server")),
    ("README.md", "SECURITY__BEARER_TOKENS=", By(DOCUMENTS, "the_env_file_of_the_readme_configures_a_server")),
    ("README.md", "TOKEN=", By(DOCUMENTS, "the_shell_commands_of_the_readme_start_a_server")),
    ("CONTRIBUTING.md", "make setup", BUILDS),
    ("CONTRIBUTING.md", "cargo nextest run", BUILDS),
    ("docs/aws.md", "make run-aws", BUILDS),
    (
        "docs/aws.md",
        ".tools/lambda/bin/cargo-lambda",
        By(TEMPLATE, "the_documented_invocation_has_an_event_and_a_function"),
    ),
    ("docs/aws.md", "aws secretsmanager", By(TEMPLATE, "the_documented_secret_has_every_key_that_the_templates_read")),
    ("docs/aws.md", "docker build --target seeder", Not("needs Docker; `scripts/build-images` builds the target")),
    ("docs/aws.md", "make deploy", By(TEMPLATE, "the_documented_deployment_names_parameters_that_exist")),
    ("docs/aws.md", "make backup", BUILDS),
    ("docs/command-line.md", "proxytorrent get", By(DOCUMENTS, "the_examples_of_the_command_work")),
    (
        "docs/command-line.md",
        "[client]",
        By(DOCUMENTS, "the_example_of_a_configuration_file_gives_the_command_its_server_and_token"),
    ),
    (
        "docs/command-line.md",
        "sudo sh -c",
        By(DOCUMENTS, "doctor_reads_the_settings_of_the_debian_package_as_documented"),
    ),
    ("docs/configuration.md", "HOST=", By(DOCUMENTS, "the_example_in_the_configuration_guide_is_accepted")),
    ("docs/http-api.md", "curl --data-binary", By(DOCUMENTS, "the_example_of_a_batch_creates_a_request_for_each_line")),
    ("docs/http-api.md", "SECURITY__JWT_ISSUER", By(DOCUMENTS, "the_example_in_the_configuration_guide_is_accepted")),
    ("docs/http-api.md", "body=", By("tests/e2e/signatures.rs", "the_documented_examples_sign_calls")),
    ("docs/http-api.md", "import hashlib", By("tests/e2e/signatures.rs", "the_documented_examples_sign_calls")),
    ("docs/notifications.md", "NOTIFY__SERVICE", By(DOCUMENTS, "the_example_of_a_notification_service_is_accepted")),
    (
        "docs/notifications.md",
        "# systemctl edit",
        By("tests/e2e/packages.rs", "the_debian_package_has_the_program_and_a_hardened_service"),
    ),
    ("docs/one-machine.md", "make deb", BUILDS),
    ("docs/one-machine.md", "sudo systemctl", NEEDS_SYSTEMD),
    ("docs/one-machine.md", "docker build", By(DOCUMENTS, "the_settings_of_the_container_are_accepted")),
    (
        "docs/one-machine.md",
        "cd infra/compose",
        Not("needs Docker and a VPN; the Compose file is checked by its schema"),
    ),
    (
        "docs/one-machine.md",
        "scrape_configs",
        By(DOCUMENTS, "prometheus_reads_the_metrics_with_the_documented_configuration"),
    ),
    (
        "docs/operations.md",
        "cp -a data backup",
        By(DOCUMENTS, "a_copy_of_the_data_folder_of_a_stopped_server_restores_it"),
    ),
    ("docs/operations.md", "mkdir -p backup", By(DOCUMENTS, "a_backup_of_a_running_server_restores_it")),
    (
        "docs/operations.md",
        "location /pt/ {\n    proxy_pass",
        By("tests/e2e/reverse_proxy.rs", "events_are_not_buffered"),
    ),
    (
        "docs/operations.md",
        "files.example.org {",
        By("tests/e2e/reverse_proxy.rs", "caddy_adds_tls_and_passes_on_the_address_of_its_client"),
    ),
    (
        "docs/operations.md",
        "location /pt/ {\n    auth_basic",
        By("tests/e2e/reverse_proxy.rs", "a_trusted_reverse_proxy_names_the_user"),
    ),
    (
        "docs/operations.md",
        "SECURITY__USER_HEADER",
        By(DOCUMENTS, "the_example_in_the_configuration_guide_is_accepted"),
    ),
    (
        "docs/several-instances.md",
        "DATABASE__DATABASE_URL",
        By(DOCUMENTS, "the_settings_of_several_instances_are_accepted"),
    ),
    (
        "docs/several-instances.md",
        "upstream",
        By("tests/e2e/instances.rs", "a_request_is_created_followed_and_downloaded_at_different_instances"),
    ),
    ("docs/tor.md", "PROXY__PROXY_TYPE", By(DOCUMENTS, "the_example_in_the_configuration_guide_is_accepted")),
];

/// The languages of blocks that users run or copy.
const LANGUAGES: [&str; 9] = ["sh", "bash", "console", "ini", "toml", "yaml", "nginx", "caddyfile", "python"];

/// Returns the languages of the code blocks of a document.
fn languages(document: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join(document)).expect("text");
    let fences = text.lines().filter_map(|line| line.trim_start().strip_prefix("```"));
    fences.step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_code_block_has_a_test_or_a_reason_why_not() {
    let mut found = BTreeSet::new();
    for document in documents() {
        for language in languages(&document) {
            let is_known = language == "text" || LANGUAGES.contains(&language.as_str());
            assert!(is_known, "{document}: no test uses blocks of {language:?}; allowed: text, {LANGUAGES:?}");
        }
        for block in LANGUAGES.iter().flat_map(|language| code_blocks(&document, language)) {
            let block = block.trim_start();
            let index = BLOCKS.iter().position(|(of, start, _)| *of == document && block.starts_with(start));
            let index = index.unwrap_or_else(|| panic!("no test uses this block of {document}:\n{block}"));
            assert!(found.insert(index), "two blocks of {document} begin with {:?}", BLOCKS[index].1);
        }
    }
    assert_eq!(found.len(), BLOCKS.len(), "a block in the list is in no document");
}

#[test]
fn the_file_of_each_test_has_it_and_reads_the_document() {
    let read = |file: &str| std::fs::read_to_string(root().join(file)).expect("text");
    let shared = read("tests/src/nginx.rs");
    for (document, start, tested) in BLOCKS {
        match tested {
            By(file, test) => {
                let source = read(file);
                assert!(source.contains(&format!("fn {test}(")), "{document}, {start}: {file} has no test {test}");
                let call = format!("code_blocks(\"{document}\", ");
                let reads = [&source, &shared].iter().any(|source| source.contains(&call));
                assert!(reads || *file == ARCHITECTURE, "{file} does not read {document}");
            }
            Not(reason) => println!("{document}, {start}: {reason}"),
        }
    }
}
