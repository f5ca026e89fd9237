//! The reference of the HTTP API in the manual, generated from the OpenAPI document.

use std::fmt::Write;

use proxytorrent_tests::documents::keep_file;
use proxytorrent_tests::root;
use serde_json::{Map, Value};

/// The introduction of the page.
const HEAD: &str = "# Reference of the HTTP API\n\n\
    Every endpoint and schema, from the OpenAPI document (`GET /openapi.json`). [HTTP API](http-api.md) explains what a\n\
    description cannot say. Responses of every endpoint have `X-Request-Id`; errors are `application/problem+json`\n\
    ([Problem](#problem)).\n";

/// Returns the members of an object; none of anything else.
fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// Returns a text for a cell of a table.
fn cell(value: &Value) -> String {
    let text = value.as_str().unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|").replace('<', "&lt;")
}

/// Returns the type of a schema in words, with links to the schemas that have a name.
fn type_of(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        return format!("[{name}](#{})", name.to_lowercase());
    }
    let variants = schema["oneOf"].as_array().or(schema["anyOf"].as_array());
    if let Some(variants) = variants {
        return variants.iter().map(type_of).collect::<Vec<_>>().join(" or ");
    }
    if let Some(values) = schema["enum"].as_array() {
        return values
            .iter()
            .map(|value| format!("`{}`", value.as_str().unwrap_or("null")))
            .collect::<Vec<_>>()
            .join(", ");
    }
    let types = match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        other => other.as_str().into_iter().collect::<Vec<_>>(),
    };
    let named = types.into_iter().map(|name| match name {
        "array" => format!("list of {}", type_of(&schema["items"])),
        "string" => schema["format"].as_str().map_or("string".into(), |format| format!("string ({format})")),
        other => other.to_owned(),
    });
    let text = named.collect::<Vec<_>>().join(" or ");
    if text.is_empty() { "any".into() } else { text }
}

/// Returns the limits of a schema, such as its range.
fn limits(schema: &Value) -> String {
    let names = ["minimum", "maximum", "minItems", "maxItems", "maxLength", "maxProperties", "default"];
    let found = names.iter().filter(|name| !schema[**name].is_null()).map(|name| format!("{name} {}", schema[*name]));
    let found: Vec<_> = found.collect();
    if found.is_empty() { String::new() } else { format!(" ({})", found.join(", ")) }
}

fn write_operation(page: &mut String, method: &str, path: &str, operation: &Value) -> std::fmt::Result {
    let summary = cell(&operation["summary"]);
    writeln!(page, "\n### {} {path}\n\n{summary}.", method.to_uppercase())?;
    if let Some(description) = operation["description"].as_str() {
        writeln!(page, "\n{description}")?;
    }
    if let Some(parameters) = operation["parameters"].as_array() {
        writeln!(page, "\n| Parameter | In | Type | Meaning |\n|---|---|---|---|")?;
        for parameter in parameters {
            let (name, schema) = (cell(&parameter["name"]), &parameter["schema"]);
            let (kind, limits) = (type_of(schema), limits(schema));
            let (place, meaning) = (cell(&parameter["in"]), cell(&parameter["description"]));
            writeln!(page, "| `{name}` | {place} | {kind}{limits} | {meaning} |")?;
        }
    }
    for (media_type, body) in members(&operation["requestBody"]["content"]) {
        writeln!(page, "\nBody: `{media_type}`, {}.", type_of(&body["schema"]))?;
    }
    writeln!(page, "\n| Status | Body | Headers | Meaning |\n|---|---|---|---|")?;
    for (status, response) in members(&operation["responses"]) {
        let bodies = members(&response["content"]).map(|(media_type, body)| match media_type.as_str() {
            "application/problem+json" => type_of(&body["schema"]),
            other => format!("`{other}`: {}", type_of(&body["schema"])),
        });
        let headers = members(&response["headers"]).map(|(name, _)| name).filter(|name| *name != "X-Request-Id");
        let (bodies, headers) = (bodies.collect::<Vec<_>>().join(", "), headers.map(|name| format!("`{name}`")));
        let (headers, meaning) = (headers.collect::<Vec<_>>().join(", "), cell(&response["description"]));
        writeln!(page, "| {status} | {bodies} | {headers} | {meaning} |")?;
    }
    Ok(())
}

fn write_schema(page: &mut String, name: &str, schema: &Value) -> std::fmt::Result {
    writeln!(page, "\n### {name}\n")?;
    if let Some(description) = schema["description"].as_str() {
        writeln!(page, "{description}\n")?;
    }
    let Some(properties) = schema["properties"].as_object() else {
        return writeln!(page, "{}", type_of(schema));
    };
    let required: Vec<_> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    writeln!(page, "| Field | Type | Meaning |\n|---|---|---|")?;
    for (field, schema) in properties {
        let always = if required.contains(&field.as_str()) { "" } else { ", optional" };
        // The description of a field with a named type is beside the reference.
        let nested = schema["oneOf"].as_array().and_then(|all| all.iter().find(|one| !one["description"].is_null()));
        let meaning = cell(nested.map_or(&schema["description"], |one| &one["description"]));
        writeln!(page, "| `{field}` | {}{}{always} | {meaning} |", type_of(schema), limits(schema))?;
    }
    Ok(())
}

#[test]
fn the_reference_of_the_api_has_every_endpoint_and_schema() {
    let description = std::fs::read_to_string(root().join("shared/api/openapi.json")).unwrap();
    let description: Map<String, Value> = serde_json::from_str(&description).unwrap();
    let mut page = HEAD.to_owned();
    page += "\n## Endpoints\n";
    for (path, operations) in members(&description["paths"]) {
        for (method, operation) in members(operations).filter(|(method, _)| *method != "parameters") {
            write_operation(&mut page, method, path, operation).unwrap();
        }
    }
    page += "\n## Schemas\n";
    for (name, schema) in members(&description["components"]["schemas"]) {
        write_schema(&mut page, name, schema).unwrap();
    }
    keep_file("docs/api-reference.md", &page);
}
