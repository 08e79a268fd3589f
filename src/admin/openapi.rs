//! The OpenAPI 3.1 document, written from the table of endpoints and from the types themselves.

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::admin::answer::Fault;
use crate::admin::endpoints::{Answer, ENDPOINTS, Endpoint, Kind, Parameter, Verb};

const ABOUT: &str = "What operators and their tools see of a running door, and what they can tell it. \
    HEAD works where GET does. What changes something needs the door's token. A refusal is a `Fault`; \
    only what is no HTTP, or has more than 8 KiB or 100 lines of headers, is answered 400 or 431 \
    without a body. Clients are to ignore properties they do not know.";

/// The types of answers or of bodies: which properties must be there is not the same for both.
fn generator(contract: fn(SchemaSettings) -> SchemaSettings) -> SchemaGenerator {
    let settings = SchemaSettings::draft2020_12().with(|it| {
        it.definitions_path = "/components/schemas".into();
        it.meta_schema = None;
    });
    contract(settings).into_generator()
}

/// The whole document.
pub(super) fn document() -> Value {
    let mut answers = generator(SchemaSettings::for_serialize);
    let mut bodies = generator(SchemaSettings::for_deserialize);
    let mut paths = Map::new();
    for endpoint in ENDPOINTS {
        let verb = match endpoint.verb {
            Verb::Get => "get",
            Verb::Post => "post",
        };
        let mut operation = operation(endpoint, &mut answers, &mut bodies);
        let parts = endpoint.path.split(['/', '{', '}', '-', '.']).filter(|part| !part.is_empty());
        let words: Vec<&str> = std::iter::once(verb).chain(parts).collect();
        operation["operationId"] = words.join("_").into();
        let entry = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        if let Some(entry) = entry.as_object_mut() {
            entry.insert(verb.to_owned(), operation);
        }
    }
    let fault = answers.subschema_for::<Fault>();
    let mut schemas = answers.take_definitions(true);
    schemas.extend(bodies.take_definitions(true));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "frontdoor",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {
                "Refused": {
                    "description": "Why not, and what to do next; nothing has changed",
                    "content": { "application/json": { "schema": fault } },
                },
            },
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The content of the file that `admin.token_file` names",
                },
            },
        },
    })
}

fn operation(
    endpoint: &Endpoint,
    answers: &mut SchemaGenerator,
    bodies: &mut SchemaGenerator,
) -> Value {
    let names = endpoint.path.split(['{', '}']).skip(1).step_by(2).map(name);
    let parameters: Vec<Value> = names.chain(endpoint.query.iter().map(parameter)).collect();
    let (status, content) = match endpoint.answer {
        Answer::Text => ("200", json!({ "text/plain": { "schema": { "type": "string" } } })),
        Answer::Document => {
            ("200", json!({ "application/json": { "schema": { "type": "object" } } }))
        }
        Answer::Json(described) => {
            ("200", json!({ "application/json": { "schema": described(answers) } }))
        }
        Answer::Taken(described) => {
            ("202", json!({ "application/json": { "schema": described(answers) } }))
        }
    };
    let mut responses = Map::new();
    let answered = json!({ "description": "Answered, or done, or under way", "content": content });
    responses.insert(status.to_owned(), answered);
    for status in endpoint.refusals() {
        let refused = json!({ "$ref": "#/components/responses/Refused" });
        responses.insert(status.to_string(), refused);
    }
    let mut operation = json!({
        "summary": endpoint.says,
        "parameters": parameters,
        "responses": responses,
    });
    if endpoint.verb == Verb::Post {
        operation["security"] = json!([{ "token": [] }]);
    }
    if let Some(body) = endpoint.body {
        operation["requestBody"] = json!({
            "required": true,
            "content": { "application/json": {
                "schema": (body.described)(bodies),
                "example": serde_json::from_str::<Value>(body.example).ok(),
            } },
        });
    }
    operation
}

/// A name in a path.
fn name(name: &str) -> Value {
    let says = match name {
        "user" => "Login name or address (sip:…), %-encoded",
        "report" => "Its id, as /v1/reports lists it",
        _ => "As configured, %-encoded",
    };
    let schema = json!({ "type": "string", "minLength": 1 });
    json!({ "name": name, "in": "path", "required": true, "description": says, "schema": schema })
}

/// A parameter in a query.
fn parameter(parameter: &Parameter) -> Value {
    let schema = match parameter.kind {
        Kind::Text => json!({ "type": "string" }),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Number { least, most, default } => {
            json!({ "type": "integer", "minimum": least, "maximum": most, "default": default })
        }
        Kind::OneOf(words) => json!({ "type": "string", "enum": words }),
        Kind::Many(most) => {
            json!({ "type": "array", "items": { "type": "string" }, "minItems": 1, "maxItems": most })
        }
    };
    json!({
        "name": parameter.name,
        "in": "query",
        "required": matches!(parameter.kind, Kind::Many(_)),
        "description": parameter.says,
        "schema": schema,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::admin::route::{Route, route};

    use super::*;

    /// Every value under a key of this name, wherever it stands.
    fn under<'v>(value: &'v Value, key: &str, found: &mut Vec<&'v Value>) {
        match value {
            Value::Object(map) => {
                for (name, inner) in map {
                    if name == key {
                        found.push(inner);
                    }
                    under(inner, key, found);
                }
            }
            Value::Array(list) => list.iter().for_each(|inner| under(inner, key, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn operations(document: &Value) -> Vec<(&str, &Value)> {
        let paths = document["paths"].as_object().unwrap().iter();
        let verbs = paths
            .flat_map(|(path, verbs)| verbs.as_object().unwrap().iter().map(move |it| (path, it)));
        verbs.map(|(path, (_, operation))| (path.as_str(), operation)).collect()
    }

    #[test]
    fn every_endpoint_has_an_operation_of_its_own() {
        let document = document();
        let operations = operations(&document);
        assert_eq!(operations.len(), ENDPOINTS.len(), "no two share path and verb");
        let ids: BTreeSet<_> =
            operations.iter().map(|(_, it)| it["operationId"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), operations.len(), "{ids:?}");
        assert!(
            ids.contains("post_v1_users_user_home") && ids.contains("get_v1_what_if"),
            "{ids:?}"
        );
    }

    #[test]
    fn every_reference_leads_somewhere_and_everything_is_led_to() {
        let document = document();
        let mut references = Vec::new();
        under(&document, "$ref", &mut references);
        let mut used = BTreeSet::new();
        for reference in references {
            let pointer = reference.as_str().unwrap().strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
            used.extend(pointer.strip_prefix("/components/schemas/"));
        }
        for name in document["components"]["schemas"].as_object().unwrap().keys() {
            assert!(used.contains(&**name), "{name} is of no use");
        }
    }

    #[test]
    fn everything_is_described_for_those_who_do_not_read_the_source() {
        let document = document();
        for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
            assert!(schema["description"].is_string(), "{name}");
            for (property, schema) in schema["properties"].as_object().unwrap() {
                assert!(schema["description"].is_string(), "{name}.{property}");
            }
        }
        let mut texts = Vec::new();
        for key in ["description", "summary"] {
            under(&document, key, &mut texts);
        }
        for text in texts.into_iter().filter_map(Value::as_str) {
            for foreign in ["::", "[`", "(D", "(H", "(M"] {
                assert!(!text.is_empty() && !text.contains(foreign), "{text}");
            }
        }
    }

    #[test]
    fn an_answer_has_all_its_properties_and_a_body_those_without_default() {
        let document = document();
        let required = |name: &str| {
            let names = document["components"]["schemas"][name]["required"].as_array().unwrap();
            names.iter().filter_map(Value::as_str).collect::<Vec<_>>()
        };
        let status = document["components"]["schemas"]["Status"]["properties"].as_object().unwrap();
        assert_eq!(required("Status").len(), status.len());
        assert!(required("UserStatus").contains(&"relocated_at"), "it may be null, but is there");
        assert_eq!(required("Maintenance"), ["on"]);
    }

    #[test]
    fn the_names_in_a_path_are_parameters() {
        let document = document();
        for (path, operation) in operations(&document) {
            let parameters = operation["parameters"].as_array().unwrap();
            for parameter in parameters.iter().filter(|it| it["in"] == "path") {
                let name = parameter["name"].as_str().unwrap();
                assert!(["user", "server", "report"].contains(&name), "{path}: say what {name} is");
                assert!(path.contains(&format!("{{{name}}}")), "{path}");
            }
            let names = parameters.iter().filter(|it| it["in"] == "path").count();
            assert_eq!(names, path.matches('{').count(), "{path}");
        }
    }

    #[test]
    fn an_example_of_a_body_is_one() {
        for endpoint in ENDPOINTS.iter().filter(|it| it.body.is_some()) {
            let names = vec!["x"; endpoint.path.matches('{').count()];
            let asked = route(endpoint, &names, None).unwrap();
            let Route::OrderWith(wanted) = asked else {
                unreachable!("{}: what has a body reads it", endpoint.path)
            };
            let example = endpoint.body.unwrap().example;
            assert!(wanted.read(example.as_bytes()).is_ok(), "{}: {example}", endpoint.path);
        }
    }
}
