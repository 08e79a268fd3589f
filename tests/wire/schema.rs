//! JSON Schema, as far as the door's own document uses it. What it does not know it complains of.

use std::collections::BTreeSet;

use serde_json::Value;

/// Says nothing of what is valid.
const SILENT: &[&str] = &["description", "title", "default", "format"];

/// Holds values against a document's schemas.
pub(crate) struct Checker<'d> {
    document: &'d Value,
    /// Schemas of the document that some value was held against.
    pub(crate) seen: BTreeSet<String>,
}

impl<'d> Checker<'d> {
    pub(crate) fn of(document: &'d Value) -> Self {
        Self { document, seen: BTreeSet::new() }
    }

    /// What is wrong with `value`, each with where.
    pub(crate) fn complaints(&mut self, schema: &'d Value, value: &Value, at: &str) -> Vec<String> {
        let mut complaints = Vec::new();
        for (keyword, rule) in schema.as_object().unwrap() {
            let complain = |what: &str| vec![format!("{at}: {what} {rule}: {value}")];
            complaints.extend(match keyword.as_str() {
                "$ref" => {
                    let pointer = rule.as_str().unwrap().strip_prefix('#').unwrap();
                    self.seen.insert(pointer.rsplit('/').next().unwrap().to_owned());
                    self.complaints(self.document.pointer(pointer).unwrap(), value, at)
                }
                "type" if !is_of(rule, value) => complain("is no"),
                "enum" if !rule.as_array().unwrap().contains(value) => complain("is none of"),
                "const" if rule != value => complain("is not"),
                "minimum" if value.is_number() && value.as_f64() < rule.as_f64() => {
                    complain("is less than")
                }
                "maximum" if value.is_number() && value.as_f64() > rule.as_f64() => {
                    complain("is more than")
                }
                "required" => {
                    let names = rule.as_array().unwrap().iter().map(|it| it.as_str().unwrap());
                    let missing = names.filter(|name| value.get(name).is_none());
                    missing.map(|name| format!("{at}: {name} is missing")).collect()
                }
                "anyOf" => {
                    let fits = |it: &'d Value| self.complaints(it, value, at).is_empty();
                    if rule.as_array().unwrap().iter().any(fits) {
                        vec![]
                    } else {
                        complain("fits none of")
                    }
                }
                "items" => {
                    let items = value.as_array().into_iter().flatten();
                    items.flat_map(|item| self.complaints(rule, item, &format!("{at}[]"))).collect()
                }
                "type" | "enum" | "const" | "minimum" | "maximum" => vec![],
                "properties" | "additionalProperties" => vec![],
                known if SILENT.contains(&known) => vec![],
                unknown => vec![format!("{at}: nobody knows the keyword {unknown}")],
            });
        }
        complaints.extend(self.properties(schema, value, at));
        complaints
    }

    /// Stricter than JSON Schema: what is not described is not there.
    fn properties(&mut self, schema: &'d Value, value: &Value, at: &str) -> Vec<String> {
        let is_described = |keyword| schema.get(keyword).is_some();
        if !is_described("properties") && !is_described("additionalProperties") {
            let opaque = schema["type"] == "object" && at != "the document itself";
            return if opaque {
                vec![format!("{at}: its properties are not said")]
            } else {
                vec![]
            };
        }
        let mut complaints = Vec::new();
        for (name, value) in value.as_object().into_iter().flatten() {
            let at = format!("{at}.{name}");
            let rule = schema.get("properties").and_then(|it| it.get(name));
            let others = schema.get("additionalProperties").filter(|it| it.is_object());
            match rule.or(others) {
                Some(rule) => complaints.extend(self.complaints(rule, value, &at)),
                None => complaints.push(format!("{at} is not documented: {value}")),
            }
        }
        complaints
    }
}

fn is_of(kinds: &Value, value: &Value) -> bool {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_u64() || number.is_i64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    match kinds {
        Value::Array(kinds) => kinds.iter().any(|it| it == kind),
        one => one == kind,
    }
}

#[test]
fn it_finds_what_is_wrong() {
    let document = serde_json::json!({ "components": { "schemas": {
        "Server": {
            "type": "object",
            "properties": {
                "name": { "type": "string", "description": "x" },
                "score": { "type": "integer", "minimum": 0, "maximum": 100 },
                "because": { "type": ["string", "null"] },
                "at": { "type": ["integer", "null"], "minimum": 0 },
                "counts": { "type": "object", "additionalProperties": { "type": "integer" } },
                "next": { "anyOf": [{ "$ref": "#/components/schemas/Server" }, { "type": "null" }] },
                "kinds": { "type": "array", "items": { "enum": ["a", "b"] } },
            },
            "required": ["name"],
        },
        "Odd": { "oneOf": [] },
        "Opaque": { "type": "object" },
    } } });
    let check = |schema: &str, value: Value| {
        let schema = &document["components"]["schemas"][schema];
        Checker::of(&document).complaints(schema, &value, "it")
    };
    let good = serde_json::json!({
        "name": "x", "score": 100, "because": null, "at": null, "counts": { "y": 1 },
        "next": { "name": "z", "next": null }, "kinds": ["a", "b"],
    });
    assert_eq!(check("Server", good), [""; 0]);
    for (wrong, said) in [
        (serde_json::json!({}), "it: name is missing"),
        (serde_json::json!({ "name": 1 }), "it.name: is no"),
        (serde_json::json!({ "name": "x", "scor": 1 }), "it.scor is not documented"),
        (serde_json::json!({ "name": "x", "score": 101 }), "it.score: is more than 100"),
        (serde_json::json!({ "name": "x", "score": -1 }), "it.score: is less than 0"),
        (serde_json::json!({ "name": "x", "score": 1.5 }), "it.score: is no"),
        (serde_json::json!({ "name": "x", "counts": { "y": "1" } }), "it.counts.y: is no"),
        (serde_json::json!({ "name": "x", "next": { "nam": "y" } }), "it.next: fits none of"),
        (serde_json::json!({ "name": "x", "kinds": ["c"] }), "it.kinds[]: is none of"),
        (serde_json::json!("x"), "it: is no"),
    ] {
        let complaints = check("Server", wrong);
        assert!(complaints.iter().any(|it| it.starts_with(said)), "{said}: {complaints:?}");
    }
    assert!(check("Odd", Value::Null)[0].contains("nobody knows the keyword oneOf"));
    assert!(check("Opaque", serde_json::json!({ "a": 1 }))[0].contains("are not said"));
}
