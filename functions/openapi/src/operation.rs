//! One operation of the document: a method of a path, what it takes and what it answers.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde_json::{Map, Value, json};

use crate::refusal::{self, Form, Refusal};
use crate::schemas::{Schemas, Shape, fields, shape};

/// What a caller must be allowed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Put jobs in the queue.
    Enqueue,
    /// Claim jobs and report on them.
    Work,
    /// Look at jobs, workers, artifacts and dead letters.
    Read,
    /// Change what became of jobs.
    Operate,
    /// Scrape the metrics.
    Metrics,
    /// Have a round of the schedules and the housekeeping done.
    Tick,
}

impl Scope {
    /// The scope's name in a stored API key.
    pub fn name(self) -> &'static str {
        match self {
            Self::Enqueue => "enqueue",
            Self::Work => "work",
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Metrics => "metrics",
            Self::Tick => "tick",
        }
    }
}

/// What the body of a success is.
enum Content {
    Json(Shape),
    /// JSON of a media type of its own.
    As(&'static str, Shape),
    /// Of this media type; no schema says more.
    Text(&'static str),
}

/// One operation, made by naming what it has; see [`crate::operations`].
pub struct Operation {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) tag: &'static str,
    id: &'static str,
    summary: &'static str,
    description: &'static str,
    scope: Option<Scope>,
    query: Option<Shape>,
    body: Option<Shape>,
    /// Whether the body may be left out.
    body_optional: bool,
    /// By parameter's name.
    parameter_examples: Vec<(&'static str, Value)>,
    body_examples: Vec<(&'static str, Value)>,
    /// Of a success.
    status: u16,
    answer: &'static str,
    content: Vec<Content>,
    /// A success of another status, which has no body.
    empty: Option<(u16, &'static str)>,
    /// A success of another status, which has the same body.
    early: Option<(u16, &'static str)>,
    /// The name and the meaning of a header that the request may have.
    header: Option<(&'static str, &'static str)>,
    refusals: BTreeMap<u16, Vec<&'static str>>,
    form: Form,
    /// A refusal's status, and another body that it may have.
    told: Option<(u16, Shape)>,
}

impl Operation {
    /// `GET path`, which has the operationId `id`.
    pub fn get(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self::new("get", path, id, summary)
    }

    /// `POST path`, which has the operationId `id`.
    pub fn post(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self::new("post", path, id, summary)
    }

    /// `DELETE path`, which has the operationId `id`.
    pub fn delete(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self::new("delete", path, id, summary)
    }

    fn new(
        method: &'static str,
        path: &'static str,
        id: &'static str,
        summary: &'static str,
    ) -> Self {
        let operation = Self {
            method,
            path,
            tag: "",
            id,
            summary,
            description: "",
            scope: None,
            query: None,
            body: None,
            body_optional: false,
            parameter_examples: Vec::new(),
            body_examples: Vec::new(),
            status: 200,
            answer: "Done.",
            content: Vec::new(),
            empty: None,
            early: None,
            header: None,
            refusals: BTreeMap::new(),
            form: Form::Collab,
            told: None,
        };
        operation.refuses(&refusal::ANY)
    }

    /// Puts the operation under a heading.
    pub fn tag(mut self, tag: &'static str) -> Self {
        self.tag = tag;
        self
    }

    /// Says more than the summary.
    pub fn description(mut self, description: &'static str) -> Self {
        self.description = description;
        self
    }

    /// Only callers with this scope are let in.
    pub fn scope(mut self, scope: Scope) -> Self {
        self.scope = Some(scope);
        self.refuses(&refusal::CREDENTIALS)
    }

    /// One statement of the database answers it.
    pub fn database(self) -> Self {
        self.refuses(&refusal::DATABASE)
    }

    /// The fields of `T` are the query string's parameters.
    pub fn query<T: JsonSchema>(mut self) -> Self {
        self.query = Some(fields::<T>());
        self.refuses(&refusal::PARAMETERS)
    }

    /// An example of a parameter, in the query string or the path.
    pub fn with(mut self, name: &'static str, example: impl Into<Value>) -> Self {
        self.parameter_examples.push((name, example.into()));
        self
    }

    /// The body is a `T`.
    pub fn body<T: JsonSchema>(mut self) -> Self {
        self.body = Some(shape::<T>());
        self.refuses(&refusal::BODY)
    }

    /// The body is a `T`, or left out.
    pub fn optional_body<T: JsonSchema>(mut self) -> Self {
        self.body_optional = true;
        self.body::<T>()
    }

    /// An example of the body, by a name of one word.
    pub fn example(mut self, name: &'static str, body: Value) -> Self {
        self.body_examples.push((name, body));
        self
    }

    /// A success is described so, and its body is a `T`.
    pub fn answers<T: JsonSchema>(mut self, description: &'static str) -> Self {
        self.answer = description;
        self.content.push(Content::Json(shape::<T>()));
        self
    }

    /// A success may have the same body under another media type.
    pub fn answers_as<T: JsonSchema>(mut self, media_type: &'static str) -> Self {
        self.content.push(Content::As(media_type, shape::<T>()));
        self
    }

    /// A success is described so, and its body is of this media type.
    pub fn answers_text(mut self, media_type: &'static str, description: &'static str) -> Self {
        self.answer = description;
        self.content.push(Content::Text(media_type));
        self
    }

    /// A success has this status and not 200.
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// Refusals have the body of `/api/tasks` and `/api/jobs`.
    pub(crate) fn gateway(mut self) -> Self {
        self.form = Form::Gateway;
        self
    }

    /// Refusals have the body of `/graphql`.
    pub(crate) fn graphql(mut self) -> Self {
        self.form = Form::Graphql;
        self
    }

    /// A refusal with this status may have a `T` as its body.
    pub fn tells<T: JsonSchema>(mut self, status: u16) -> Self {
        self.told = Some((status, shape::<T>()));
        self
    }

    /// There is another kind of success, without a body.
    pub fn or_empty(mut self, status: u16, description: &'static str) -> Self {
        self.empty = Some((status, description));
        self
    }

    /// There is another kind of success, with the same body.
    pub fn or_already(mut self, status: u16, description: &'static str) -> Self {
        self.early = Some((status, description));
        self
    }

    /// The request may have this header.
    pub fn header(mut self, name: &'static str, description: &'static str) -> Self {
        self.header = Some((name, description));
        self
    }

    /// Refusals of the operation's own.
    pub fn refuses(mut self, refusals: &[Refusal]) -> Self {
        for (status, codes) in refusals {
            let known = self.refusals.entry(*status).or_default();
            known.extend(
                codes
                    .iter()
                    .filter(|code| !known.contains(code))
                    .collect::<Vec<_>>(),
            );
        }
        self
    }

    /// The operation object.
    pub(crate) fn object(&self, schemas: &mut Schemas) -> Value {
        let mut object = json!({
            "operationId": self.id,
            "summary": self.summary,
            "tags": [self.tag],
            "responses": self.responses(schemas),
            "security": match self.scope {
                Some(_) => json!([{ "bearer": [] }, { "apiKey": [] }, { "supabase": [] }]),
                None => json!([]),
            },
        });
        let description = self.full_description();
        if !description.is_empty() {
            object["description"] = description.into();
        }
        let parameters = self.parameters(schemas);
        if !parameters.is_empty() {
            object["parameters"] = parameters.into();
        }
        if let Some(body) = self.body {
            let examples: Map<String, Value> = self
                .body_examples
                .iter()
                .map(|(name, body)| ((*name).to_owned(), json!({ "value": body })))
                .collect();
            let schema = schemas.request(body);
            object["requestBody"] = json!({
                "required": !self.body_optional,
                "content": { "application/json": { "schema": schema, "examples": examples } },
            });
        }
        object
    }

    fn full_description(&self) -> String {
        let scope = self
            .scope
            .map(|scope| format!("Needs the scope `{}`.", scope.name()));
        let parts = [Some(self.description.to_owned()), scope];
        let parts: Vec<String> = parts
            .into_iter()
            .flatten()
            .filter(|part| !part.is_empty())
            .collect();
        parts.join("\n\n")
    }

    fn parameters(&self, schemas: &mut Schemas) -> Vec<Value> {
        let in_path = self.path.split('/').filter_map(|part| {
            let name = part.strip_prefix('{')?.strip_suffix('}')?;
            Some((name.to_owned(), "path", true, path_parameter(name)))
        });
        let in_query = self.query.map(|query| schemas.parameters(query));
        let in_query = in_query
            .into_iter()
            .flatten()
            .map(|(name, required, schema)| (name, "query", required, schema));
        let in_header = self.header.map(|(name, description)| {
            let schema = json!({ "type": "string", "description": description });
            (name.to_owned(), "header", false, schema)
        });
        in_path
            .chain(in_query)
            .chain(in_header)
            .map(|(name, place, required, mut schema)| {
                let mut parameter = json!({ "name": name, "in": place, "required": required });
                if let Some(description) = schema
                    .as_object_mut()
                    .and_then(|schema| schema.remove("description"))
                {
                    parameter["description"] = description;
                }
                parameter["schema"] = schema;
                let example = self
                    .parameter_examples
                    .iter()
                    .find(|(known, _)| *known == name);
                if let Some((_, example)) = example {
                    parameter["example"] = example.clone();
                }
                parameter
            })
            .collect()
    }

    fn responses(&self, schemas: &mut Schemas) -> Value {
        let content: Map<String, Value> = self
            .content
            .iter()
            .map(|content| match content {
                Content::Json(shape) => (
                    "application/json".to_owned(),
                    json!({ "schema": schemas.answer(*shape) }),
                ),
                Content::As(media_type, shape) => (
                    (*media_type).to_owned(),
                    json!({ "schema": schemas.answer(*shape) }),
                ),
                Content::Text(media_type) => (
                    (*media_type).to_owned(),
                    json!({ "schema": { "type": "string" } }),
                ),
            })
            .collect();
        let success = self.status.to_string();
        let mut responses =
            json!({ success.as_str(): { "description": self.answer, "content": content } });
        if let Some((status, description)) = self.early {
            responses[status.to_string()] = json!({ "description": description, "content": responses[success.as_str()]["content"] });
        }
        if let Some((status, description)) = self.empty {
            responses[status.to_string()] = json!({ "description": description });
        }
        for (status, codes) in &self.refusals {
            responses[status.to_string()] = refusal::response(self.form, *status, codes);
        }
        if let Some((status, told)) = self.told {
            let schema =
                &mut responses[status.to_string()]["content"]["application/json"]["schema"];
            *schema = json!({ "oneOf": [schemas.answer(told), schema.take()] });
        }
        responses
    }
}

/// The schema of a parameter in a path.
fn path_parameter(name: &str) -> Value {
    match name {
        "jobId" => json!({ "type": "string", "format": "uuid", "description": "The job." }),
        "id" => {
            json!({ "type": "string", "description": "The id of the task, or of the job: a decimal number." })
        }
        "bucket" => json!({ "type": "string", "description": "The bucket that the file lies in." }),
        _ => json!({ "type": "string", "description": "Where it lies there." }),
    }
}
