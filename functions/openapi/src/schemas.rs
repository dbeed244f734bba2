//! The schemas of requests and answers, shared by name under `/components/schemas`.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

/// What makes the schema of one type: [`shape`] of it.
pub type Shape = fn(&mut SchemaGenerator) -> Schema;

/// The schema of `T` where it is used: a `$ref` to its component if it has a name of its own.
pub fn shape<T: JsonSchema>() -> Shape {
    SchemaGenerator::subschema_for::<T>
}

/// The schema of `T` itself, for a struct whose fields are a query string's parameters.
pub fn fields<T: JsonSchema>() -> Shape {
    T::json_schema
}

/// Collects the schemas that a document's operations use.
pub struct Schemas {
    requests: SchemaGenerator,
    answers: SchemaGenerator,
}

impl Schemas {
    pub fn new() -> Self {
        let settings = || {
            SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = "/components/schemas".into();
                settings.meta_schema = None;
            })
        };
        Self {
            requests: settings().for_deserialize().into_generator(),
            answers: settings().for_serialize().into_generator(),
        }
    }

    /// The schema of what a client sends.
    pub fn request(&mut self, shape: Shape) -> Value {
        let mut schema = shape(&mut self.requests).to_value();
        list_constants(&mut schema);
        schema
    }

    /// The schema of what a client gets.
    pub fn answer(&mut self, shape: Shape) -> Value {
        let mut schema = shape(&mut self.answers).to_value();
        tighten(&mut schema);
        list_constants(&mut schema);
        schema
    }

    /// A query string's parameters: name, whether it is required, and schema, in which `null` has no place.
    pub fn parameters(&mut self, shape: Shape) -> Vec<(String, bool, Value)> {
        let mut schema = self.request(shape);
        let required = required(&schema);
        let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
        properties
            .map(std::mem::take)
            .unwrap_or_default()
            .into_iter()
            .map(|(name, mut schema)| {
                without_null(&mut schema);
                let required = required.contains(&name);
                (name, required, schema)
            })
            .collect()
    }

    /// All schemas that have a name.
    pub fn into_components(mut self) -> Map<String, Value> {
        let mut components = self.requests.take_definitions(true);
        components.values_mut().for_each(list_constants);
        for (name, mut schema) in self.answers.take_definitions(true) {
            tighten(&mut schema);
            list_constants(&mut schema);
            let other = components.insert(name.clone(), schema.clone());
            assert!(
                other.is_none_or(|other| other == schema),
                "the type {name} looks different in a request than in an answer: give the answer's another name"
            );
        }
        // schemars numbers the second of two types of one name.
        let is_second = |name: &&String| {
            let first = name.trim_end_matches(|end: char| end.is_ascii_digit());
            first != name.as_str() && components.contains_key(first)
        };
        assert_eq!(
            components.keys().find(is_second),
            None,
            "two types have one name"
        );
        components
    }
}

/// Makes an answer's schema say what answers keep to: no other fields, and none that is absent or `null` alike (see
/// `millrace-contract`: a field that may be absent is never `null`).
fn tighten(schema: &mut Value) {
    let required = required(schema);
    match schema {
        Value::Object(fields) => {
            if let Some(Value::Object(properties)) = fields.get_mut("properties") {
                for (name, property) in properties {
                    if !required.contains(name) {
                        without_null(property);
                    }
                }
                fields
                    .entry("additionalProperties")
                    .or_insert(Value::Bool(false));
            }
            fields.values_mut().for_each(tighten);
        }
        Value::Array(items) => items.iter_mut().for_each(tighten),
        _ => {}
    }
}

/// Makes one `enum` of the choices between constants that schemars makes of a Rust enum, their meanings in its description.
fn list_constants(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.values_mut().for_each(list_constants);
            if let Some(choices) = fields.get("oneOf").and_then(constants) {
                let meanings = choices.iter().map(|(name, meaning)| match meaning {
                    Some(meaning) => format!("- `{name}`: {meaning}"),
                    None => format!("- `{name}`"),
                });
                let own = fields.get("description").and_then(Value::as_str);
                let own = own.map(|own| format!("{own}\n"));
                let description: Vec<String> = own.into_iter().chain(meanings).collect();
                let names: Vec<&String> = choices.iter().map(|(name, _)| name).collect();
                let names = json!(names);
                fields.remove("oneOf");
                fields.insert("type".to_owned(), "string".into());
                fields.insert("enum".to_owned(), names);
                fields.insert("description".to_owned(), description.join("\n").into());
            }
        }
        Value::Array(items) => items.iter_mut().for_each(list_constants),
        _ => {}
    }
}

/// The texts that a `oneOf` chooses between and what each means, if it is about nothing else: `const` where one is described,
/// `enum` for those that are not.
fn constants(one_of: &Value) -> Option<Vec<(String, Option<String>)>> {
    let mut found = Vec::new();
    for choice in one_of.as_array()? {
        let meaning = choice["description"].as_str().map(str::to_owned);
        match (&choice["const"], &choice["enum"]) {
            (Value::String(name), _) => found.push((name.clone(), meaning)),
            (_, Value::Array(names)) => {
                for name in names {
                    found.push((name.as_str()?.to_owned(), None));
                }
            }
            _ => return None,
        }
    }
    Some(found)
}

fn required(schema: &Value) -> Vec<String> {
    let names = schema.get("required").and_then(Value::as_array);
    names
        .into_iter()
        .flatten()
        .filter_map(|name| Some(name.as_str()?.to_owned()))
        .collect()
}

/// Takes `null` out of what the schema of an `Option` allows.
fn without_null(schema: &mut Value) {
    let Value::Object(fields) = schema else {
        return;
    };
    fields.remove("default");
    if let Some(Value::Array(types)) = fields.get_mut("type") {
        types.retain(|one| one != "null");
        if let [one] = types.as_slice() {
            let one = one.clone();
            fields.insert("type".to_owned(), one);
        }
    }
    if let Some(Value::Array(values)) = fields.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    if let Some(Value::Array(choices)) = fields.get_mut("anyOf") {
        choices.retain(|choice| choice["type"] != "null");
        if let [one] = choices.as_slice() {
            let one = one.clone();
            fields.remove("anyOf");
            if let Value::Object(one) = one {
                fields.extend(one);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As requests and answers are written: serde's attributes, and a choice.
    #[derive(serde::Serialize, serde::Deserialize, JsonSchema)]
    struct Thing {
        always: Option<i64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        sometimes: Option<Kind>,
    }

    /// Which kind.
    #[derive(serde::Serialize, serde::Deserialize, JsonSchema)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        /// Not hard.
        Soft,
        Hard,
    }

    #[test]
    fn an_answer_is_closed_and_has_no_null_where_a_field_may_be_absent() {
        let mut schemas = Schemas::new();
        let place = schemas.answer(shape::<Thing>());
        assert_eq!(place, json!({ "$ref": "#/components/schemas/Thing" }));
        let components = schemas.into_components();
        let thing = &components["Thing"];
        assert_eq!(thing["additionalProperties"], false);
        assert_eq!(thing["required"], json!(["always"]));
        assert_eq!(
            thing["properties"]["always"]["type"],
            json!(["integer", "null"])
        );
        let kind = json!({ "$ref": "#/components/schemas/Kind" });
        assert_eq!(thing["properties"]["sometimes"], kind);
    }

    #[test]
    fn a_request_may_have_null_for_an_absent_field_and_a_query_string_may_not() {
        let mut schemas = Schemas::new();
        schemas.request(shape::<Thing>());
        let parameters = schemas.parameters(fields::<Thing>());
        let components = schemas.into_components();
        let sometimes = &components["Thing"]["properties"]["sometimes"];
        assert_eq!(sometimes["anyOf"][1], json!({ "type": "null" }));
        let (name, required, schema) = &parameters[0];
        assert_eq!((name.as_str(), *required), ("always", false));
        assert_eq!(schema["type"], "integer");
    }

    #[test]
    fn a_choice_is_an_enum_that_tells_what_each_means() {
        let mut schemas = Schemas::new();
        schemas.request(shape::<Kind>());
        let components = schemas.into_components();
        let expected = json!({
            "type": "string",
            "enum": ["hard", "soft"],
            "description": "Which kind.\n\n- `hard`\n- `soft`: Not hard.",
        });
        assert_eq!(components["Kind"], expected);
    }
}
