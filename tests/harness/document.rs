//! Holds requests and answers against the OpenAPI document: an answer that the document does not describe fails the test
//! that got it.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock};

use jsonschema::Validator;
use serde_json::{Map, Value};

/// One exchange over HTTP, as far as the document speaks of it.
pub struct Exchange<'a> {
    pub method: &'a str,
    /// Without the query string.
    pub path: &'a str,
    /// As it was sent, if there was one.
    pub query: Option<&'a str>,
    /// The request's body, if it was sent as JSON.
    pub request: Option<&'a [u8]>,
    pub status: u16,
    /// The answer's media type, without parameters.
    pub content_type: &'a str,
    /// The answer's body.
    pub answer: &'a str,
}

/// A document whose schemas are compiled as they are needed.
pub struct Document {
    value: Value,
    /// By the JSON pointer of the schema.
    validators: Mutex<HashMap<String, &'static Validator>>,
}

/// The application's document, as the generator makes it.
pub fn ours() -> &'static Document {
    static OURS: OnceLock<Document> = OnceLock::new();
    OURS.get_or_init(|| Document::new(millrace_openapi::document()))
}

impl Document {
    pub fn new(value: Value) -> Self {
        Self {
            value,
            validators: Mutex::default(),
        }
    }

    /// The document itself.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// Holds an exchange against the document. Paths that it does not name are not its business.
    ///
    /// # Errors
    /// What does not fit, beginning with the operation and the status.
    pub fn check(&self, exchange: &Exchange) -> Result<(), String> {
        // A preflight is the Fetch standard's business, and a HEAD has no body to look at.
        if matches!(exchange.method, "OPTIONS" | "HEAD") {
            return Ok(());
        }
        let Some(path) = self.path(exchange.path) else {
            return Ok(());
        };
        let method = exchange.method.to_ascii_lowercase();
        let item = &self.value["paths"][path];
        let method = match item.get(&method) {
            Some(_) => method,
            // Another method than the route's: any operation of the path says how that is refused.
            None if exchange.status >= 400 => item
                .as_object()
                .and_then(|item| item.keys().next().cloned())
                .unwrap_or_default(),
            None => return Err(format!("{} {path} is not documented", exchange.method)),
        };
        self.check_operation(path, &method, exchange)
            .map_err(|reason| format!("{method} {path} {}: {reason}", exchange.status))
    }

    /// The documented path that `path` is one of.
    fn path(&self, path: &str) -> Option<&str> {
        let parts: Vec<&str> = path.trim_end_matches('/').split('/').collect();
        let paths = self.value["paths"].as_object()?;
        let mut fitting: Vec<&str> = paths
            .keys()
            .map(String::as_str)
            .filter(|documented| fits(documented, &parts))
            .collect();
        // A name in full goes before one that is a parameter.
        fitting.sort_by_key(|documented| documented.matches('{').count());
        fitting.first().copied()
    }

    fn check_operation(&self, path: &str, method: &str, exchange: &Exchange) -> Result<(), String> {
        let operation = &self.value["paths"][path][method];
        let pointer = format!("/paths/{}/{method}", escaped(path));
        let status = exchange.status.to_string();
        let Some(response) = operation["responses"].get(&status) else {
            return Err(format!("the status is not documented: {}", exchange.answer));
        };
        self.check_answer(
            response,
            &format!("{pointer}/responses/{status}/content"),
            exchange,
        )?;
        match exchange.status {
            200..=299 => self.check_request(operation, &pointer, exchange),
            _ => Ok(()),
        }
    }

    fn check_answer(
        &self,
        response: &Value,
        pointer: &str,
        exchange: &Exchange,
    ) -> Result<(), String> {
        let content = response["content"].as_object();
        if content.is_none() && exchange.answer.is_empty() {
            return Ok(());
        }
        let content_type = exchange.content_type;
        let is_documented = |content: &Map<String, Value>| {
            content.contains_key(content_type) || content.contains_key("*/*")
        };
        if !content.is_some_and(is_documented) {
            return Err(format!(
                "the content type {content_type:?} is not documented"
            ));
        }
        // Of other media types nothing is said but the name.
        if content_type != "application/json" || response["content"][content_type].is_null() {
            return Ok(());
        }
        let pointer = format!("{pointer}/{}/schema", escaped(content_type));
        self.check_json(&pointer, exchange.answer.as_bytes())
            .map_err(|reason| format!("the answer: {reason}"))
    }

    /// A request that was taken must have been a documented one.
    fn check_request(
        &self,
        operation: &Value,
        pointer: &str,
        exchange: &Exchange,
    ) -> Result<(), String> {
        if let Some(body) = exchange.request {
            if operation["requestBody"].is_null() {
                return Err("a body was sent and is not documented".to_owned());
            }
            let pointer = format!("{pointer}/requestBody/content/application~1json/schema");
            self.check_json(&pointer, body)
                .map_err(|reason| format!("the request: {reason}"))?;
        }
        // What can refuse no parameter takes no notice of any.
        if operation["responses"]["400"].is_null() {
            return Ok(());
        }
        let query = exchange.query.unwrap_or_default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            self.check_parameter(operation, pointer, &name, &value)
                .map_err(|reason| format!("the parameter {name}: {reason}"))?;
        }
        Ok(())
    }

    fn check_parameter(
        &self,
        operation: &Value,
        pointer: &str,
        name: &str,
        value: &str,
    ) -> Result<(), String> {
        let parameters = operation["parameters"].as_array();
        let index = parameters
            .into_iter()
            .flatten()
            .position(|parameter| parameter["in"] == "query" && parameter["name"] == name)
            .ok_or("is not documented")?;
        let schema = &operation["parameters"][index]["schema"];
        let value = match (schema["type"].as_str(), value) {
            (Some("integer" | "boolean"), _) => {
                serde_json::from_str(value).map_err(|e| e.to_string())?
            }
            _ => Value::from(value),
        };
        self.check_value(&format!("{pointer}/parameters/{index}/schema"), &value)
    }

    fn check_json(&self, pointer: &str, json: &[u8]) -> Result<(), String> {
        let value = serde_json::from_slice(json)
            .map_err(|e| format!("{e}: {}", String::from_utf8_lossy(json)))?;
        self.check_value(pointer, &value)
    }

    fn check_value(&self, pointer: &str, value: &Value) -> Result<(), String> {
        let errors: Vec<String> = self
            .validator(pointer)
            .iter_errors(value)
            .map(|error| format!("at {:?}: {error}", error.instance_path().as_str()))
            .collect();
        match errors.is_empty() {
            true => Ok(()),
            false => Err(format!("{} in {value}", errors.join("; "))),
        }
    }

    /// The schema at `pointer`, compiled once.
    fn validator(&self, pointer: &str) -> &'static Validator {
        let mut validators = self.validators.lock().expect("no check panics");
        validators
            .entry(pointer.to_owned())
            .or_insert_with(|| Box::leak(Box::new(self.compile(pointer))))
    }

    fn compile(&self, pointer: &str) -> Validator {
        // The document's references begin at its root, so the schema brings the components along.
        let mut schema = Map::new();
        schema.insert("components".to_owned(), self.value["components"].clone());
        let at_pointer = self.value.pointer(pointer).unwrap_or(&Value::Null);
        schema.extend(
            at_pointer
                .as_object()
                .unwrap_or_else(|| panic!("{pointer} is no schema"))
                .clone(),
        );
        jsonschema::draft202012::options()
            .should_validate_formats(true)
            .build(&Value::Object(schema))
            .unwrap_or_else(|e| panic!("{pointer}: {e}"))
    }
}

/// Whether a documented path is the path of these parts: `{name}` stands for any one, a `{path}` at the end for all the rest.
fn fits(documented: &str, parts: &[&str]) -> bool {
    let documented: Vec<&str> = documented.trim_end_matches('/').split('/').collect();
    let same_length = match documented.last() {
        Some(&"{path}") => documented.len() <= parts.len(),
        _ => documented.len() == parts.len(),
    };
    same_length
        && documented.iter().zip(parts).all(|(documented, part)| {
            documented == part || (documented.starts_with('{') && !part.is_empty())
        })
}

/// A name as a part of a JSON pointer (RFC 6901).
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// Fails the test if an exchange does not fit the application's document.
///
/// # Panics
/// Naming the operation, the status and the place.
pub fn assert_documented(exchange: &Exchange) {
    if let Err(reason) = ours().check(exchange) {
        panic!("the OpenAPI document does not describe this: {reason}");
    }
}
