//! A query as a document that may be executed: parsed, one operation of it chosen, and known to be neither too deep nor too much before anything
//! walks it. Fragments are measured once each, so a document that would expand without bound costs no more than its text.

use std::collections::HashMap;

use async_graphql::parser::types::{
    BaseType, Directive, ExecutableDocument, Field, FragmentDefinition, OperationDefinition,
    OperationType, Selection, SelectionSet, VariableDefinition,
};
use async_graphql::parser::{Error as ParseError, parse_query};
use async_graphql::{Name, Pos, Positioned, ServerError, Value, Variables};
use async_graphql_value::Value as ParsedValue;

use crate::exact;
use crate::memory::Share;
use crate::refusal::{code, error};
use crate::types;

/// The longest text of a query, in bytes.
const TEXT_LIMIT: usize = 64 * 1024;

/// How deeply brackets of any kind may nest in the text: the parser recurses, and this is far from its stack's end.
const MAX_BRACKETS: usize = 50;

/// How deeply selections may nest once fragments are in their places.
pub const MAX_NESTING: usize = 50;

/// How deep a query of the schema itself may be. What tools ask goes to 15.
const MAX_INTROSPECTION_DEPTH: usize = 20;

/// How many lists of the schema may stand in one another: `types { fields { type { fields } } }` grows without an end.
const MAX_INTROSPECTION_LISTS: usize = 2;

/// How many fields an operation may have at its root, aliases included: each is a call in the one statement.
const MAX_ROOT_FIELDS: usize = 30;

/// How often a root field's selection may name what is large of a task or job, aliases included.
const MAX_LARGE: usize = 6;
const LARGE: [&str; 3] = ["payload", "result", "error"];

/// How many bytes the arguments of an operation may come to, of a variable as many as it has at each place where it stands. The library copies
/// it there, and what a statement asks holds it there.
const MAX_ARGUMENTS: u64 = 4 * 1024 * 1024;

/// How many bytes of memory the variables may take. Dense JSON takes 70 times its text.
const MAX_VARIABLES: usize = 40 * 1024 * 1024;

/// What an operation may ask of the schema, counted as [`Limits::complexity`] is. What tools ask comes to about 15,000.
const MAX_INTROSPECTION: usize = 25_000;

/// How many directives may stand at one place.
const MAX_DIRECTIVES: usize = 5;

/// How many operations a document may have. All of them are validated.
const MAX_OPERATIONS: usize = 20;

/// The types that variables may have. The library panics at a default value for a list of a type that there is not.
const INPUT_TYPES: [&str; 12] = [
    "Boolean",
    "CreateJobInput",
    "CreateTaskInput",
    "DateTime",
    "Float",
    "ID",
    "Int",
    "JSON",
    "String",
    "TaskFilters",
    "TaskPriority",
    "TaskStatus",
];

/// What a document is held against.
#[derive(Clone, Copy)]
pub struct Limits {
    /// How many fields may stand in one another.
    pub depth: usize,
    /// How much an operation may ask for: each field counts as one, each fragment too, and a list as often as it may hold a task or job.
    pub complexity: usize,
    /// Whether the schema may be asked for.
    pub introspection: bool,
}

/// A document of which one operation is chosen.
pub struct Document {
    pub parsed: ExecutableDocument,
    /// The chosen operation's name, if it has one.
    pub name: Option<String>,
    pub kind: OperationType,
    /// The memory that the variables take, for as long as there is the operation.
    pub share: Share,
}

/// Parses a query and chooses its operation.
///
/// # Errors
/// Why there is none that may be executed.
pub fn read(
    text: &str,
    name: Option<&str>,
    given: &Variables,
    limits: &Limits,
) -> Result<Document, ServerError> {
    check_text(text)?;
    let parsed = parse_query(text).map_err(parse_failed)?;
    let needed = measure(&parsed, given, limits)?;
    let (name, operation) = choose(&parsed, name)?;
    let (name, kind) = (name.map(Name::to_string), operation.ty);
    let mut roots = Vec::new();
    collect_roots(&parsed, &operation.selection_set.node, &mut roots);
    check_roots(kind, &roots)?;
    let busy = "too much is being worked on: try again";
    let share = Share::take(needed).ok_or_else(|| error(code::UNAVAILABLE, busy, None))?;
    Ok(Document {
        parsed,
        name,
        kind,
        share,
    })
}

/// The operation that is to be executed, as the specification has it (section 6.1).
pub fn choose<'a>(
    document: &'a ExecutableDocument,
    name: Option<&str>,
) -> Result<(Option<&'a Name>, &'a OperationDefinition), ServerError> {
    let mut operations = document.operations.iter();
    let found = match name {
        Some(name) => operations.find(|(known, _)| known.is_some_and(|known| known == name)),
        None => match (operations.next(), operations.next()) {
            (only, None) => only,
            _ => {
                let why = "operationName is required where a document has several operations";
                return Err(error(code::UNRESOLVED, why, None));
            }
        },
    };
    match found {
        Some((name, operation)) => Ok((name, &operation.node)),
        None => Err(error(
            code::UNRESOLVED,
            "operationName: the document has no such operation",
            None,
        )),
    }
}

/// Bounds the text before the parser sees it. What is no string and no comment may nest its brackets only so far.
fn check_text(text: &str) -> Result<(), ServerError> {
    if text.len() > TEXT_LIMIT {
        let why = format!("query: is longer than {TEXT_LIMIT} bytes");
        return Err(error(code::TOO_LARGE, why, None));
    }
    let (mut depth, mut rest) = (0_usize, text);
    while let Some(start) = rest.find(['"', '#', '(', '[', '{', ')', ']', '}']) {
        rest = &rest[start..];
        let length = match rest.as_bytes()[0] {
            b'"' => string_length(rest),
            b'#' => rest.find(['\n', '\r']).unwrap_or(rest.len()),
            b'(' | b'[' | b'{' => {
                depth += 1;
                1
            }
            _ => {
                depth = depth.saturating_sub(1);
                1
            }
        };
        if depth > MAX_BRACKETS {
            let why = format!("query: nests its brackets more than {MAX_BRACKETS} deep");
            return Err(error(code::TOO_DEEP, why, None));
        }
        rest = &rest[length..];
    }
    Ok(())
}

/// How long the string is that a text begins with, its quotes included; one without an end goes to its line's, where the parser complains.
pub fn string_length(text: &str) -> usize {
    if let Some(block) = text.strip_prefix("\"\"\"") {
        let mut at = 0;
        while let Some(end) = block[at..].find("\"\"\"") {
            at += end + 3;
            if !block[..at - 3].ends_with('\\') {
                return at + 3;
            }
        }
        // The parser reads a block without an end as an empty string, and goes on behind that.
        return 2;
    }
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            // A string ends with its line at the latest.
            b'\n' | b'\r' => return at,
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// What the parser found wrong, in the words of the language: it draws a picture of the place, and names its own rules in the last line.
fn parse_failed(problem: ParseError) -> ServerError {
    let place = match &problem {
        ParseError::Syntax { start, .. } => Some(*start),
        ParseError::RecursionLimitExceeded => {
            return error(code::TOO_DEEP, "query: is nested too deep", None);
        }
        _ => problem.positions().next(),
    };
    let text = problem.to_string();
    let sentence = text.lines().last().unwrap_or_default();
    let sentence = sentence.trim_start_matches([' ', '=']).replace('_', " ");
    error(
        code::PARSE_FAILED,
        format!("Syntax Error: {sentence}"),
        place,
    )
}

/// How much stands in a selection set, with fragments in their places.
#[derive(Clone, Copy, Default)]
struct Measure {
    /// What it asks for, as [`Limits::complexity`] counts.
    cost: usize,
    /// What it asks of the schema, counted in the same way.
    schema: usize,
    /// Fields within fields.
    depth: usize,
    /// Selection sets within selection sets.
    nesting: usize,
    /// Lists of the schema within one another.
    lists: usize,
    /// Its own fields. The library executes each, also one with the key of another.
    fields: usize,
    /// What it names of [`LARGE`], and all that is within it.
    large: usize,
    /// The bytes of its arguments.
    arguments: u64,
}

impl Measure {
    /// Adds what stands beside it.
    fn add(&mut self, other: Self) {
        self.cost = self.cost.saturating_add(other.cost);
        self.schema = self.schema.saturating_add(other.schema);
        self.depth = self.depth.max(other.depth);
        self.nesting = self.nesting.max(other.nesting);
        self.lists = self.lists.max(other.lists);
        self.fields = self.fields.saturating_add(other.fields);
        self.large = self.large.saturating_add(other.large);
        self.arguments += other.arguments;
    }

    /// Holds what it asks for against the limits.
    fn check(&self, limits: &Limits, place: Pos) -> Result<(), ServerError> {
        let (kind, why) = match () {
            () if self.cost > limits.complexity => (
                code::TOO_COMPLEX,
                format!(
                    "the query asks for too much: each field counts as one, a list as often as it may hold a task or job, and {} are allowed",
                    limits.complexity
                ),
            ),
            () if self.schema > MAX_INTROSPECTION => (
                code::TOO_COMPLEX,
                "the query asks for too much of the schema".to_owned(),
            ),
            () if self.arguments > MAX_ARGUMENTS => (
                code::TOO_COMPLEX,
                format!(
                    "the arguments are more than {MAX_ARGUMENTS} bytes together, a variable counted wherever it stands"
                ),
            ),
            () if self.depth > limits.depth => (
                code::TOO_DEEP,
                format!(
                    "the query is {} fields deep; {} are allowed",
                    self.depth, limits.depth
                ),
            ),
            () => return Ok(()),
        };
        Err(error(kind, why, Some(place)))
    }
}

/// Measures every operation and every fragment: what is not executed is validated all the same. Says how much memory the arguments need.
fn measure(
    document: &ExecutableDocument,
    given: &Variables,
    limits: &Limits,
) -> Result<usize, ServerError> {
    if document.operations.iter().count() > MAX_OPERATIONS {
        let why = format!("a document has at most {MAX_OPERATIONS} operations");
        return Err(error(code::TOO_COMPLEX, why, None));
    }
    let weight = given.values().map(exact::weight).sum::<usize>();
    if weight > MAX_VARIABLES {
        let why = "variables: hold too many values to be worked on at once";
        return Err(error(code::TOO_COMPLEX, why, None));
    }
    let lengths = given.iter().map(|(name, value)| (name, length(value)));
    let lengths: HashMap<&Name, u64> = lengths.collect();
    let mut arguments = 0;
    for (_, operation) in document.operations.iter() {
        let definitions = &operation.node.variable_definitions;
        definitions.iter().try_for_each(check_type)?;
        let mut ruler = Ruler {
            fragments: &document.fragments,
            known: HashMap::new(),
            level: 0,
            definitions,
            given,
            lengths: &lengths,
            limits,
        };
        for (name, fragment) in &document.fragments {
            ruler.fragment(name, fragment.pos)?;
        }
        let mut measure = ruler.set(&operation.node.selection_set, true)?;
        measure.arguments += ruler.directives(&operation.node.directives, operation.pos)?;
        measure.check(limits, operation.pos)?;
        check_root_fields(measure.fields)?;
        arguments = arguments.max(measure.arguments);
    }
    // The library has a second copy of a variable while it looks at it; what the database is asked has a few texts of it.
    let texts = usize::try_from(4 * arguments).unwrap_or(usize::MAX);
    Ok(texts.saturating_add(2 * weight))
}

fn check_type(definition: &Positioned<VariableDefinition>) -> Result<(), ServerError> {
    let mut base = &definition.node.var_type.node.base;
    while let BaseType::List(of) = base {
        base = &of.base;
    }
    match base {
        BaseType::Named(name) if !INPUT_TYPES.contains(&name.as_str()) => Err(error(
            code::VALIDATION_FAILED,
            format!("\"{name}\" is no type that a variable may have"),
            Some(definition.pos),
        )),
        _ => Ok(()),
    }
}

struct Ruler<'a> {
    fragments: &'a HashMap<Name, Positioned<FragmentDefinition>>,
    /// None while a fragment is being measured, so that one within itself is seen.
    known: HashMap<&'a Name, Option<Measure>>,
    /// How many selection sets this is within, on its way down.
    level: usize,
    definitions: &'a [Positioned<VariableDefinition>],
    given: &'a Variables,
    /// How long each variable is that was given.
    lengths: &'a HashMap<&'a Name, u64>,
    limits: &'a Limits,
}

impl<'a> Ruler<'a> {
    /// Measures a selection set, `is_root` if it is one of the whole schema's fields.
    fn set(
        &mut self,
        set: &'a Positioned<SelectionSet>,
        is_root: bool,
    ) -> Result<Measure, ServerError> {
        let mut whole = Measure::default();
        self.level += 1;
        check_nesting(self.level, set.pos)?;
        for selection in &set.node.items {
            let mut part = match &selection.node {
                Selection::Field(field) => self.field(field, is_root)?,
                Selection::FragmentSpread(spread) => {
                    self.fragment(&spread.node.fragment_name.node, spread.pos)?
                }
                Selection::InlineFragment(fragment) => {
                    let on = fragment.node.type_condition.as_ref();
                    let is_root = on.map_or(is_root, |on| is_of_root(&on.node.on.node));
                    self.set(&fragment.node.selection_set, is_root)?
                }
            };
            part.cost = part.cost.saturating_add(1);
            part.nesting += 1;
            part.arguments += self.directives(selection.node.directives(), selection.pos)?;
            whole.add(part);
        }
        self.level -= 1;
        check_nesting(whole.nesting, set.pos)?;
        Ok(whole)
    }

    fn field(
        &mut self,
        field: &'a Positioned<Field>,
        is_root: bool,
    ) -> Result<Measure, ServerError> {
        let mut measure = self.set(&field.node.selection_set, false)?;
        measure.depth += 1;
        measure.fields = 1;
        let arguments = field.node.arguments.iter();
        let lengths = arguments.map(|(_, value)| self.length(&value.node));
        measure.arguments += lengths.sum::<u64>();
        let name = field.node.name.node.as_str();
        match name {
            "tasks" if is_root => {
                let limit = self.limit_of(&field.node);
                measure.cost = times(types::most(limit), measure.cost);
            }
            "jobs" if is_root => measure.cost = times(types::most(None), measure.cost),
            "__schema" | "__type" => {
                self.check_introspection(measure, field.pos)?;
                measure.schema = measure.schema.saturating_add(measure.cost);
                (measure.cost, measure.depth) = (0, 1);
            }
            // About as many as the schema has of them on the average.
            "types" => measure.cost = times(30, measure.cost),
            "fields" => measure.cost = times(5, measure.cost),
            "inputFields" => measure.cost = times(2, measure.cost),
            _ if LARGE.contains(&name) => measure.large = measure.large.saturating_add(1),
            _ => {}
        }
        if matches!(
            name,
            "fields" | "inputFields" | "interfaces" | "possibleTypes"
        ) {
            measure.lists += 1;
        }
        if is_root {
            check_large(measure.large, field.pos)?;
            measure.large = 0;
        }
        Ok(measure)
    }

    /// How many bytes a value is with the variables in their places. (64 bits: a document may name a long one often.)
    fn length(&self, value: &ParsedValue) -> u64 {
        match value {
            ParsedValue::Variable(name) => match self.lengths.get(name) {
                Some(length) => *length,
                None => self.value_of(name).map_or(0, length),
            },
            ParsedValue::List(items) => items.iter().map(|item| self.length(item) + 1).sum(),
            ParsedValue::Object(fields) => {
                let fields = fields.iter();
                let lengths = fields.map(|(name, value)| text(name) + self.length(value));
                lengths.sum()
            }
            ParsedValue::String(string) => text(string),
            _ => 20,
        }
    }

    /// How many bytes the arguments of directives are.
    fn directives(
        &self,
        directives: &[Positioned<Directive>],
        place: Pos,
    ) -> Result<u64, ServerError> {
        check_directives(directives.len(), place)?;
        let arguments = directives.iter().flat_map(|it| &it.node.arguments);
        Ok(arguments.map(|(_, value)| self.length(&value.node)).sum())
    }

    /// The limit of a list, if it has one that is a number.
    fn limit_of(&self, field: &Field) -> Option<i64> {
        let limit = match &field.get_argument("filters")?.node {
            ParsedValue::Variable(name) => member(self.value_of(name)?, "limit")?,
            ParsedValue::Object(filters) => match filters.get("limit")? {
                ParsedValue::Variable(name) => self.value_of(name)?,
                ParsedValue::Number(limit) => return limit.as_i64(),
                _ => return None,
            },
            _ => return None,
        };
        match limit {
            Value::Number(limit) => limit.as_i64(),
            _ => None,
        }
    }

    /// What a variable is, as it was given or by default.
    fn value_of(&self, name: &Name) -> Option<&'a Value> {
        let default = || {
            let mut definitions = self.definitions.iter();
            let definition = definitions.find(|known| known.node.name.node == *name)?;
            definition.node.default_value()
        };
        self.given.get(name).or_else(default)
    }

    fn check_introspection(&self, measure: Measure, place: Pos) -> Result<(), ServerError> {
        if !self.limits.introspection {
            let why = "introspection is switched off: __schema and __type are not answered";
            return Err(error(code::VALIDATION_FAILED, why, Some(place)));
        }
        if measure.depth > MAX_INTROSPECTION_DEPTH || measure.lists > MAX_INTROSPECTION_LISTS {
            let why = "the query of the schema is nested too deep";
            return Err(error(code::TOO_DEEP, why, Some(place)));
        }
        Ok(())
    }

    /// One that the document does not have measures nothing: the schema's validation refuses it.
    fn fragment(&mut self, name: &Name, place: Pos) -> Result<Measure, ServerError> {
        let Some((name, fragment)) = self.fragments.get_key_value(name) else {
            return Ok(Measure::default());
        };
        match self.known.get(name) {
            Some(Some(measure)) => Ok(*measure),
            Some(None) => Err(error(
                code::VALIDATION_FAILED,
                format!("the fragment \"{name}\" contains itself"),
                Some(place),
            )),
            None => {
                self.known.insert(name, None);
                let is_root = is_of_root(&fragment.node.type_condition.node.on.node);
                let mut measure = self.set(&fragment.node.selection_set, is_root)?;
                measure.arguments += self.directives(&fragment.node.directives, fragment.pos)?;
                // It may be one of the schema's, for which other limits hold; the operation is held against its own.
                let limits = Limits {
                    depth: usize::MAX,
                    complexity: self.limits.complexity.max(MAX_INTROSPECTION),
                    ..*self.limits
                };
                measure.check(&limits, fragment.pos)?;
                self.known.insert(name, Some(measure));
                Ok(measure)
            }
        }
    }
}

/// Whether the type of this name has the whole schema's fields.
fn is_of_root(name: &Name) -> bool {
    ["Query", "Mutation", "Subscription"].contains(&name.as_str())
}

/// How many bytes a value is.
fn length(value: &Value) -> u64 {
    exact::length(value) as u64
}

fn text(text: &str) -> u64 {
    text.len() as u64 + 4
}

/// A field of an object.
fn member<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    match value {
        Value::Object(fields) => fields.get(name),
        _ => None,
    }
}

/// What a list costs of so many that cost so much each.
fn times(count: usize, cost: usize) -> usize {
    count.saturating_mul(cost.saturating_add(1))
}

fn check_large(count: usize, place: Pos) -> Result<(), ServerError> {
    match count > MAX_LARGE {
        true => Err(error(
            code::TOO_COMPLEX,
            format!(
                "a field at the root names payload, result and error {count} times; {MAX_LARGE} are allowed"
            ),
            Some(place),
        )),
        false => Ok(()),
    }
}

fn check_root_fields(count: usize) -> Result<(), ServerError> {
    match count > MAX_ROOT_FIELDS {
        true => Err(error(
            code::TOO_COMPLEX,
            format!(
                "an operation has at most {MAX_ROOT_FIELDS} fields at its root, aliases and repetitions included"
            ),
            None,
        )),
        false => Ok(()),
    }
}

fn check_nesting(nesting: usize, place: Pos) -> Result<(), ServerError> {
    match nesting > MAX_NESTING {
        true => Err(error(
            code::TOO_DEEP,
            format!("the query nests its selections more than {MAX_NESTING} deep"),
            Some(place),
        )),
        false => Ok(()),
    }
}

fn check_directives(count: usize, place: Pos) -> Result<(), ServerError> {
    match count > MAX_DIRECTIVES {
        true => Err(error(
            code::TOO_COMPLEX,
            format!("more than {MAX_DIRECTIVES} directives stand at one place"),
            Some(place),
        )),
        false => Ok(()),
    }
}

/// The root fields in the order of the query. The document is measured, so this ends.
fn collect_roots(document: &ExecutableDocument, set: &SelectionSet, roots: &mut Vec<(Name, Name)>) {
    for selection in &set.items {
        match &selection.node {
            Selection::Field(field) => {
                let root = (
                    field.node.response_key().node.clone(),
                    field.node.name.node.clone(),
                );
                if !roots.contains(&root) {
                    roots.push(root);
                }
            }
            Selection::FragmentSpread(spread) => {
                if let Some(fragment) = document.fragments.get(&spread.node.fragment_name.node) {
                    collect_roots(document, &fragment.node.selection_set.node, roots);
                }
            }
            Selection::InlineFragment(fragment) => {
                collect_roots(document, &fragment.node.selection_set.node, roots);
            }
        }
    }
}

fn check_roots(kind: OperationType, roots: &[(Name, Name)]) -> Result<(), ServerError> {
    let introspects = roots.iter().any(|(_, name)| name.starts_with("__"));
    if kind == OperationType::Subscription && (roots.len() != 1 || introspects) {
        let why = "a subscription has exactly one field at its root, and none of introspection";
        return Err(error(code::VALIDATION_FAILED, why, None));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
