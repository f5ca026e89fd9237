//! Checks of `template.yaml` and `infra/` against the code: functions, permissions, secrets, routes, tables, alarms.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde_json::{Value, json};
use serde_norway::Value as Yaml;
use telemetry::metrics::METRICS;
use tests::documents::code_blocks;

use crate::transport::Call;

/// Names of the tables and queues in the template, in the tests and in the code.
const NAMES: [(&str, &str, &str); 8] = [
    ("RequestsTable", "test-requests", "REQUESTS"),
    ("TorrentsTable", "test-torrents", "TORRENTS"),
    ("ContentsTable", "test-contents", "CONTENTS"),
    ("GuardsTable", "test-guards", "GUARDS"),
    ("SwarmTable", "test-swarm", "SWARM"),
    ("FetchQueue", "fetch", "FETCH_QUEUE"),
    ("PackageQueue", "package", "PACKAGE_QUEUE"),
    ("SeedQueue", "seed", "SEED_QUEUE"),
];

pub struct Template {
    resources: BTreeMap<String, Value>,
    globals: Value,
    parameters: Value,
    mappings: Value,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Converts YAML with CloudFormation's tags to JSON: `!Ref X` to `X`, `!GetAtt X.Arn` to `X.Arn`, `!Sub …` to its
/// text.
fn plain(yaml: &Yaml) -> Value {
    match yaml {
        Yaml::Null => Value::Null,
        Yaml::Bool(value) => json!(value),
        Yaml::Number(value) => json!(value.as_f64()),
        Yaml::String(value) => json!(value),
        Yaml::Sequence(items) => items.iter().map(plain).collect(),
        Yaml::Mapping(entries) => {
            entries.iter().map(|(key, value)| (key.as_str().unwrap_or_default().to_owned(), plain(value))).collect()
        }
        Yaml::Tagged(tagged) => plain(&tagged.value),
    }
}

/// Returns the strings of a value that is one string or a list of them.
fn list(value: &Value) -> Vec<String> {
    let items = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
    items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

impl Template {
    /// Reads the template of the application.
    pub fn read() -> Self {
        Self::read_file("template.yaml")
    }

    /// Reads the template of the seeders.
    pub fn of_seeders() -> Self {
        Self::read_file("infra/seeder.yaml")
    }

    fn read_file(path: &str) -> Self {
        let text = std::fs::read_to_string(root().join(path)).unwrap();
        let template = plain(&serde_norway::from_str(&text).unwrap());
        let resources = template["Resources"].as_object().unwrap();
        let resources = resources.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let sections = [&template["Globals"]["Function"], &template["Parameters"], &template["Mappings"]];
        let [globals, parameters, mappings] = sections.map(Value::clone);
        Self { resources, globals, parameters, mappings }
    }

    fn of_type(&self, kind: &str) -> impl Iterator<Item = (&String, &Value)> {
        self.resources.iter().filter(move |(_, resource)| resource["Type"] == kind)
    }

    /// Returns the actions and resources of each statement in the policies of a function or a role.
    fn statements(&self, name: &str) -> Vec<(Vec<String>, Vec<String>)> {
        let policies = self.resources[name]["Properties"]["Policies"].as_array().cloned().unwrap_or_default();
        let documents = policies.iter().map(|policy| policy.get("PolicyDocument").unwrap_or(policy));
        let statements = documents.flat_map(|document| document["Statement"].as_array().unwrap());
        statements.map(|statement| (list(&statement["Action"]), list(&statement["Resource"]))).collect()
    }

    /// Returns the number of queues that Lambda polls.
    pub fn event_sources(&self) -> usize {
        let events = self.of_type("AWS::Serverless::Function").flat_map(|(_, function)| {
            function["Properties"]["Events"].as_object().cloned().unwrap_or_default().into_iter()
        });
        events.filter(|(_, event)| event["Type"] == "SQS").count()
    }

    /// Returns the memory of a function in MB.
    pub fn memory(&self, function: &str) -> f64 {
        let own = &self.resources[function]["Properties"]["MemorySize"];
        let memory = if own.is_null() { &self.globals["MemorySize"] } else { own };
        let memory = memory.as_str().map_or(memory, |parameter| &self.parameters[parameter]["Default"]);
        memory.as_f64().unwrap()
    }

    /// Whether the policies of a function or a role allow a call.
    pub fn allows(&self, name: &str, call: &Call) -> bool {
        let statements = self.statements(name);
        statements
            .iter()
            .any(|(actions, resources)| actions.contains(&call.action) && resources.iter().any(|arn| is_of(call, arn)))
    }

    /// Returns the actions, with their resources, that the policies of a function or a role allow and none of these calls
    /// needs.
    pub fn unneeded(&self, name: &str, calls: &[Call]) -> Vec<(String, String)> {
        let statements = self.statements(name).into_iter();
        let allowed = statements.flat_map(|(actions, resources)| {
            actions
                .into_iter()
                .flat_map(move |action| resources.clone().into_iter().map(move |arn| (action.clone(), arn)))
        });
        allowed.filter(|(action, arn)| !calls.iter().any(|call| call.action == *action && is_of(call, arn))).collect()
    }
}

/// Whether a call is one of the resource that a policy names.
fn is_of(call: &Call, arn: &str) -> bool {
    let arn = arn.rsplit_once(":table/").or_else(|| arn.rsplit_once(":::")).map_or(arn, |(_, of)| of);
    let arn = arn.replace("${", "").replace('}', "").replace(".Arn", "");
    let (name, path) = arn.split_once('/').unwrap_or((arn.trim_end_matches("Arn"), ""));
    if name == "Bucket" {
        let listed = path.is_empty() && call.resource.is_empty();
        return listed || path.strip_suffix('*').is_some_and(|start| call.resource.starts_with(start));
    }
    let known = NAMES.iter().find(|(logical, ..)| *logical == name);
    known.is_some_and(|(_, ours, _)| call.resource == [ours, path].join(if path.is_empty() { "" } else { "/" }))
}

/// Tables that two ports are on.
const SHARED: [(&str, [&str; 2]); 2] =
    [("TorrentsTable", ["TORRENTS", "STATISTICS"]), ("SwarmTable", ["SWARM", "SEEDERS"])];

/// Returns the names of all function binaries.
pub fn functions() -> BTreeSet<String> {
    let binaries = std::fs::read_dir(root().join("functions/src/bin")).unwrap();
    binaries.map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned()).collect()
}

/// Returns the ports that a binary imports.
fn ports(binary: &str) -> BTreeSet<String> {
    let source = std::fs::read_to_string(root().join(format!("functions/src/bin/{binary}.rs"))).unwrap();
    let used =
        source.lines().find_map(|line| line.strip_prefix("use proxytorrent_functions::port::")).unwrap_or_default();
    let names = used.trim_matches(|c| "{};".contains(c)).split(',');
    names.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty() && name != "NONE").collect()
}

#[test]
fn every_function_has_permissions_for_exactly_its_ports() {
    let template = Template::read();
    let deployed: Vec<_> = template.of_type("AWS::Serverless::Function").collect();
    let binaries = deployed.iter().map(|(_, function)| function["Metadata"]["BuildProperties"]["Binary"].as_str());
    assert_eq!(binaries.map(|name| name.unwrap().to_owned()).collect::<BTreeSet<_>>(), functions());

    for (name, function) in deployed {
        let binary = function["Metadata"]["BuildProperties"]["Binary"].as_str().unwrap();
        let named = ports(binary);
        let mut allowed = BTreeSet::new();
        for (actions, resources) in template.statements(name) {
            for text in actions.iter().chain(&resources) {
                assert!(!text.trim_end_matches("/*").contains('*'), "{name}: {text} is a wildcard");
            }
            for resource in resources {
                let logical = resource.trim_start_matches("${").split(['.', '}']).next().unwrap().to_owned();
                if logical == "Bucket" {
                    // The contents port uses content/ and staging/; the torrents port uses torrents/.
                    let port = if resource.contains("torrents/") { "TORRENTS" } else { "CONTENTS" };
                    assert!(named.contains(port), "{name} has permission for {resource}, but does not use {port}");
                } else if let Some((_, ports)) = SHARED.iter().find(|(table, _)| *table == logical) {
                    allowed.extend(ports.iter().filter(|port| named.contains(**port)).map(|port| (*port).to_owned()));
                } else {
                    allowed.insert(NAMES.iter().find(|(known, ..)| *known == logical).unwrap().2.to_owned());
                }
            }
        }
        // Links to contents and their sizes do not need the contents table.
        let unneeded = if allowed.contains("CONTENTS") { "" } else { "CONTENTS" };
        let needed: BTreeSet<_> = named.iter().filter(|port| *port != unneeded).cloned().collect();
        assert_eq!(allowed, needed, "{name}");
    }
}

#[test]
fn a_function_gets_only_the_secrets_of_its_role() {
    let template = Template::read();
    for (name, function) in template.of_type("AWS::Serverless::Function") {
        let variables = |of: &Value| of["Environment"]["Variables"].as_object().cloned().unwrap_or_default();
        let mut environment = variables(&template.globals);
        environment.extend(variables(&function["Properties"]));
        let is_secret =
            |value: &Value| value.as_str().is_some_and(|text| text.starts_with("{{resolve:secretsmanager:"));
        let secrets: BTreeSet<_> =
            environment.iter().filter(|(_, value)| is_secret(value)).map(|(name, _)| name.as_str()).collect();
        let binary = function["Metadata"]["BuildProperties"]["Binary"].as_str().unwrap();
        let source = std::fs::read_to_string(root().join(format!("functions/src/bin/{binary}.rs"))).unwrap();
        let expected: &[_] = if source.contains("Role::Fetcher") {
            &["NOTIFY__URL", "PROXY__URLS", "SECURITY__WEBHOOK_SECRET"]
        } else if binary == "package_torrent" {
            &["TORRENT__SALT"]
        } else if source.contains("Role::Worker") {
            &[]
        } else {
            &["SECURITY__BEARER_TOKENS", "SECURITY__HMAC_KEYS", "SECURITY__WEBHOOK_SECRET", "TRACKER__SECRET"]
        };
        assert_eq!(secrets.into_iter().collect::<Vec<_>>(), expected, "{name}");
    }
}

/// Returns the block of `docs/aws.md` that has this text.
fn documented(text: &str) -> String {
    let mut blocks = code_blocks("docs/aws.md", "sh").into_iter();
    blocks.find(|block| block.contains(text)).unwrap_or_else(|| panic!("no block has {text}"))
}

#[test]
fn the_documented_secret_has_every_key_that_the_templates_read() {
    let block = documented("--secret-string");
    let secret: Value = serde_json::from_str(block.split('\'').nth(1).unwrap()).expect("JSON");
    let documented: BTreeSet<_> = secret.as_object().unwrap().keys().cloned().collect();
    let text = ["template.yaml", "infra/seeder.yaml"].map(|file| std::fs::read_to_string(root().join(file)).unwrap());
    let text = text.concat();
    let read = text.split(":SecretString:").skip(1).map(|rest| rest.split(':').next().unwrap().to_owned());
    assert_eq!(documented, read.collect());
}

#[test]
fn the_documented_deployment_names_parameters_that_exist() {
    let parameters = Template::read().parameters;
    let block = documented("make deploy");
    let named: Vec<_> = block.split('\'').nth(1).unwrap().split(' ').filter_map(|pair| pair.split_once('=')).collect();
    assert_eq!(named.len(), 3, "{block}");
    for (name, _) in named {
        assert!(parameters[name].is_object(), "there is no parameter {name}");
    }
}

#[test]
fn the_documented_invocation_has_an_event_and_a_function() {
    let block = documented("lambda invoke");
    let words: Vec<_> = block.split_whitespace().collect();
    let ["-A", _, function, "--data-file", event] = words[3..] else { panic!("{block}") };
    assert!(root().join(event).exists() && root().join(format!("functions/src/bin/{function}.rs")).exists(), "{block}");
}

#[test]
fn every_path_of_the_api_has_a_route() {
    let description = std::fs::read_to_string(root().join("shared/api/openapi.json")).unwrap();
    let description: Value = serde_json::from_str(&description).unwrap();
    let template = Template::read();
    let routes = template.of_type("AWS::ApiGatewayV2::Route");
    let routes: BTreeSet<_> = routes.map(|(_, route)| route["Properties"]["RouteKey"].as_str().unwrap()).collect();
    for (path, operations) in description["paths"].as_object().unwrap() {
        // Only `proxytorrent serve` has these: a function cannot stream, and does not live long enough to keep
        // counters.
        if path.ends_with("/events") || path.ends_with("/metrics") {
            continue;
        }
        for method in operations.as_object().unwrap().keys().filter(|key| *key != "parameters") {
            let route = format!("{} {path}", method.to_uppercase());
            assert!(routes.contains(route.as_str()), "{route} is not deployed");
        }
    }
}

#[test]
fn the_template_has_the_tables_that_the_code_expects() {
    let template = Template::read();
    for (name, keys, indices) in aws::schema::TABLES {
        let logical = NAMES.iter().find(|(_, ours, _)| ours.ends_with(name)).unwrap().0;
        let table = &template.resources[logical]["Properties"];
        let names = |schema: &Value| {
            let keys = schema.as_array().unwrap().iter();
            keys.map(|key| key["AttributeName"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(&table["KeySchema"]), keys, "{name}");
        let deployed = table["GlobalSecondaryIndexes"].as_array().cloned().unwrap_or_default();
        assert_eq!(deployed.len(), indices.len(), "{name}");
        for ((index, keys, others), deployed) in indices.iter().zip(&deployed) {
            assert_eq!(deployed["IndexName"], *index);
            assert_eq!(names(&deployed["KeySchema"]), *keys, "{index}");
            let projection = &deployed["Projection"];
            match others {
                None => assert_eq!(projection["ProjectionType"], "ALL", "{index}"),
                Some([]) => assert_eq!(projection["ProjectionType"], "KEYS_ONLY", "{index}"),
                Some(others) => assert_eq!(list(&projection["NonKeyAttributes"]), *others, "{index}"),
            }
        }
    }
}

#[test]
fn a_seeder_of_each_size_has_an_open_port_for_each_session() {
    let template = Template::of_seeders();
    let cores = template.mappings["Cores"].as_object().unwrap();
    for template in [&template, &Template::read()] {
        let cpu = template.parameters.get("Cpu").unwrap_or(&template.parameters["SeederCpu"]);
        let sizes: Vec<_> = cpu["AllowedValues"].as_array().unwrap().iter().map(ToString::to_string).collect();
        let sizes: BTreeSet<_> = sizes.iter().map(|size| size.trim_end_matches(".0")).collect();
        assert_eq!(sizes, cores.keys().map(String::as_str).collect());
    }
    let most = cores.values().filter_map(|core| core["Number"].as_f64()).fold(0.0, f64::max);
    let settings = settings::Settings::from_pairs([("PROFILE", "development")]).unwrap();
    let first = f64::from(settings.seeder.listen[0].port());
    let open = template.resources["SecurityGroup"]["Properties"]["SecurityGroupIngress"].as_array().unwrap();
    assert_eq!(open.len(), 2);
    for rule in open {
        assert_eq!([&rule["FromPort"], &rule["ToPort"]], [&json!(first), &json!(first + most - 1.0)], "{rule}");
    }
}

/// `make lambda-watch` must serve each route with the same function as the template.
#[test]
fn the_routes_of_lambda_watch_match_the_template() {
    let template = Template::read();
    let binary = |logical: &str| template.resources[logical]["Metadata"]["BuildProperties"]["Binary"].as_str().unwrap();
    let named = |text: &str| -> String {
        let name = text.rsplit_once("${").map_or(text, |(_, name)| name);
        name.trim_start_matches("integrations/").split(['.', '}']).next().unwrap().to_owned()
    };
    let deployed: BTreeSet<_> = template
        .of_type("AWS::ApiGatewayV2::Route")
        .map(|(_, route)| {
            let (method, path) = route["Properties"]["RouteKey"].as_str().unwrap().split_once(' ').unwrap();
            let integration = named(route["Properties"]["Target"].as_str().unwrap());
            let uri = template.resources[&integration]["Properties"]["IntegrationUri"].as_str().unwrap();
            // API Gateway and cargo-lambda have different syntax for wildcard path parameters.
            let path = path.replace("{file+}", "{*file}");
            (method.to_owned(), path, binary(&named(uri)).to_owned())
        })
        .collect();
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let (_, table) = manifest.split_once("[workspace.metadata.lambda.watch.router]\n").unwrap();
    let watched: BTreeSet<_> = table
        .lines()
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once(" = "))
        .flat_map(|(path, functions)| {
            let path = path.trim_matches('"').to_owned();
            functions.split("function = \"").skip(1).map(move |entry| {
                let (function, rest) = entry.split_once('"').unwrap();
                let method = rest.split("method = \"").nth(1).unwrap().split('"').next().unwrap();
                (method.to_owned(), path.clone(), function.to_owned())
            })
        })
        .collect();
    assert_eq!(watched, deployed);
}

/// Each is a nested template: its parameters are set in `template.yaml`, or have a default.
#[test]
fn nested_stacks_get_the_parameters_that_they_need() {
    let template = Template::read();
    for (name, stack) in template.of_type("AWS::CloudFormation::Stack") {
        let path = stack["Properties"]["TemplateURL"].as_str().unwrap();
        let text = std::fs::read_to_string(root().join(path)).unwrap();
        let nested = plain(&serde_norway::from_str(&text).unwrap());
        let parameters = nested["Parameters"].as_object().unwrap();
        let set = stack["Properties"]["Parameters"].as_object().cloned().unwrap_or_default();
        for (parameter, declared) in parameters {
            let is_set = set.contains_key(parameter) || !declared["Default"].is_null();
            assert!(is_set, "{name}: {parameter} has no value");
        }
        for parameter in set.keys() {
            assert!(parameters.contains_key(parameter), "{name} has no parameter {parameter}");
        }
    }
}

#[test]
fn every_queue_has_a_dead_letter_queue_and_outlasts_its_function() {
    let template = Template::read();
    let queues: Vec<_> = template.of_type("AWS::SQS::Queue").collect();
    assert_eq!(queues.len(), 5);
    for (name, queue) in &queues {
        let dead = queue["Properties"]["RedrivePolicy"]["deadLetterTargetArn"].as_str().unwrap_or_default();
        let expected = match name.as_str() {
            "FetchQueue" | "PackageQueue" => "DeadQueue.Arn",
            "SeedQueue" => "SeedQueueDead.Arn",
            _ => "",
        };
        assert_eq!(dead, expected, "{name}");
    }
    let mut consumed = 0;
    for (name, function) in template.of_type("AWS::Serverless::Function") {
        let timeout = &function["Properties"]["Timeout"];
        let timeout = timeout.as_f64().unwrap_or_else(|| template.globals["Timeout"].as_f64().unwrap());
        let events = function["Properties"]["Events"].as_object().cloned().unwrap_or_default();
        for event in events.values().filter(|event| event["Type"] == "SQS") {
            let queue = event["Properties"]["Queue"].as_str().unwrap().trim_end_matches(".Arn");
            let visibility = template.resources[queue]["Properties"]["VisibilityTimeout"].as_f64().unwrap();
            // As AWS recommends.
            assert!(visibility >= 6.0 * timeout || queue == "DeadQueue", "{name}: {visibility} s of {queue}");
            consumed += 1;
        }
    }
    assert_eq!(consumed, 3);
}

#[test]
fn only_what_has_no_resources_is_allowed_on_all_of_them() {
    let template = Template::of_seeders();
    for (actions, resources) in template.statements("TaskRole") {
        assert!(actions.iter().all(|action| !action.contains('*')), "{actions:?}");
        if actions != ["ec2:DescribeNetworkInterfaces"] {
            assert!(resources.iter().all(|arn| !arn.trim_end_matches("/*").contains('*')), "{resources:?}");
        }
    }
}

#[test]
fn the_alarms_and_the_dashboard_use_metrics_that_exist() {
    let text = std::fs::read_to_string(root().join("infra/observability.yaml")).unwrap();
    let words = text.split(|c: char| !(c.is_ascii_lowercase() || c == '_'));
    let named: BTreeSet<_> = words.filter(|word| word.starts_with("proxytorrent_")).collect();
    assert!(named.contains("proxytorrent_torrents_not_seeded"), "{named:?}");
    for name in named {
        assert!(METRICS.iter().any(|metric| metric.name == name), "there is no metric {name}");
    }
}

#[test]
fn every_alarm_is_in_the_runbook() {
    let template = Template::read_file("infra/observability.yaml");
    let alarms = template.of_type("AWS::CloudWatch::Alarm");
    let deployed: BTreeSet<_> = alarms
        .map(|(_, alarm)| {
            let name = alarm["Properties"]["AlarmName"].as_str().unwrap();
            assert_eq!(list(&alarm["Properties"]["AlarmActions"]), ["Alarms"], "{name} notifies nobody");
            name.strip_prefix("${Application}-").unwrap().to_owned()
        })
        .collect();
    let manual = std::fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let (_, runbook) = manual.split_once("<!-- alarms -->").unwrap();
    let rows = runbook.split("<!-- /alarms -->").next().unwrap().lines().filter_map(|row| row.strip_prefix("| `"));
    let described: BTreeSet<_> = rows.map(|row| row.split('`').next().unwrap().to_owned()).collect();
    assert_eq!(deployed, described);
}
