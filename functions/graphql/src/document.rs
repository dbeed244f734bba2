//! A query as a document that may be executed: parsed, one operation of it chosen, and known to be neither too deep nor too much before anything
//! walks it. Fragments are measured once each, so a document that would expand without bound costs no more than its text.

use std::collections::HashMap;

use async_graphql::parser::types::{
    BaseType, ExecutableDocument, Field, FragmentDefinition, OperationDefinition, OperationType,
    Selection, SelectionSet, VariableDefinition,
};
use async_graphql::parser::{Error as ParseError, parse_query};
use async_graphql::{Name, Pos, Positioned, ServerError, Value, Variables};

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
    /// How much an operation may ask for: each field counts as one, each fragment too, and each task or job that a list may hold.
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
    /// The keys of the answer's root in the order of the query, each with the name of its field.
    pub roots: Vec<(Name, Name)>,
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
    measure(&parsed, given, limits)?;
    let (name, operation) = choose(&parsed, name)?;
    let (name, kind) = (name.map(Name::to_string), operation.ty);
    let mut roots = Vec::new();
    collect_roots(&parsed, &operation.selection_set.node, &mut roots);
    check_roots(kind, &roots)?;
    Ok(Document {
        parsed,
        name,
        kind,
        roots,
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

/// How long the string is that a text begins with, its quotes included; one without an end goes to the text's, where the parser complains.
fn string_length(text: &str) -> usize {
    if let Some(block) = text.strip_prefix("\"\"\"") {
        let mut at = 0;
        while let Some(end) = block[at..].find("\"\"\"") {
            at += end + 3;
            if !block[..at - 3].ends_with('\\') {
                return at + 3;
            }
        }
        return text.len();
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
    /// Fields within fields.
    depth: usize,
    /// Selection sets within selection sets.
    nesting: usize,
    /// Lists of the schema within one another.
    lists: usize,
}

/// Measures every operation and every fragment: what is not executed is validated all the same.
fn measure(
    document: &ExecutableDocument,
    given: &Variables,
    limits: &Limits,
) -> Result<(), ServerError> {
    if document.operations.iter().count() > MAX_OPERATIONS {
        let why = format!("a document has at most {MAX_OPERATIONS} operations");
        return Err(error(code::TOO_COMPLEX, why, None));
    }
    for (_, operation) in document.operations.iter() {
        check_directives(operation.node.directives.len(), operation.pos)?;
        let definitions = &operation.node.variable_definitions;
        definitions.iter().try_for_each(check_type)?;
        let mut ruler = Ruler {
            fragments: &document.fragments,
            known: HashMap::new(),
            level: 0,
            definitions,
            given,
            limits,
        };
        for (name, fragment) in &document.fragments {
            ruler.fragment(name, fragment.pos)?;
        }
        let measure = ruler.set(&operation.node.selection_set, true)?;
        if measure.depth > limits.depth {
            let (depth, allowed) = (measure.depth, limits.depth);
            let why = format!("the query is {depth} fields deep; {allowed} are allowed");
            return Err(error(code::TOO_DEEP, why, Some(operation.pos)));
        }
    }
    Ok(())
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
            check_directives(selection.node.directives().len(), selection.pos)?;
            let part = match &selection.node {
                Selection::Field(field) => self.field(field, is_root)?,
                Selection::FragmentSpread(spread) => {
                    self.fragment(&spread.node.fragment_name.node, spread.pos)?
                }
                Selection::InlineFragment(fragment) => {
                    let on = fragment.node.type_condition.as_ref();
                    let is_root = on.map_or(is_root, |on| is_query(&on.node.on.node));
                    self.set(&fragment.node.selection_set, is_root)?
                }
            };
            whole.cost = whole.cost.saturating_add(part.cost + 1);
            whole.depth = whole.depth.max(part.depth);
            whole.nesting = whole.nesting.max(part.nesting + 1);
            whole.lists = whole.lists.max(part.lists);
        }
        self.level -= 1;
        check_nesting(whole.nesting, set.pos)?;
        match whole.cost > self.limits.complexity {
            true => Err(too_complex(self.limits.complexity)),
            false => Ok(whole),
        }
    }

    fn field(
        &mut self,
        field: &'a Positioned<Field>,
        is_root: bool,
    ) -> Result<Measure, ServerError> {
        let mut measure = self.set(&field.node.selection_set, false)?;
        measure.depth += 1;
        match field.node.name.node.as_str() {
            "tasks" if is_root => measure.cost += types::most(self.limit_of(&field.node)),
            "jobs" if is_root => measure.cost += types::most(None),
            "fields" | "inputFields" | "interfaces" | "possibleTypes" => measure.lists += 1,
            "__schema" | "__type" => {
                self.check_introspection(measure, field.pos)?;
                measure.depth = 1;
            }
            _ => {}
        }
        Ok(measure)
    }

    /// The limit of a list, if it has one that is a number.
    fn limit_of(&self, field: &Field) -> Option<i64> {
        let filters = field.get_argument("filters")?.node.clone();
        let default = |name: &Name| {
            let mut definitions = self.definitions.iter();
            let definition = definitions.find(|known| known.node.name.node == *name)?;
            definition.node.default_value().cloned()
        };
        let value = |name: Name| self.given.get(&name).cloned().or_else(|| default(&name));
        let filters = filters.into_const_with(|name| Ok::<_, ()>(value(name).unwrap_or_default()));
        match filters {
            Ok(Value::Object(filters)) => match filters.get("limit")? {
                Value::Number(limit) => limit.as_i64(),
                _ => None,
            },
            _ => None,
        }
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
                check_directives(fragment.node.directives.len(), fragment.pos)?;
                let is_root = is_query(&fragment.node.type_condition.node.on.node);
                let measure = self.set(&fragment.node.selection_set, is_root)?;
                self.known.insert(name, Some(measure));
                Ok(measure)
            }
        }
    }
}

fn is_query(name: &Name) -> bool {
    name == "Query"
}

fn too_complex(limit: usize) -> ServerError {
    let why = format!(
        "the query asks for too much: each field counts as one, each task that a list may hold too, and {limit} are allowed"
    );
    error(code::TOO_COMPLEX, why, None)
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
    if roots.len() > MAX_ROOT_FIELDS {
        let why = format!(
            "an operation has at most {MAX_ROOT_FIELDS} fields at its root, aliases included"
        );
        return Err(error(code::TOO_COMPLEX, why, None));
    }
    let introspects = roots.iter().any(|(_, name)| name.starts_with("__"));
    if kind == OperationType::Subscription && (roots.len() != 1 || introspects) {
        let why = "a subscription has exactly one field at its root, and none of introspection";
        return Err(error(code::VALIDATION_FAILED, why, None));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use async_graphql::Request;
    use futures::executor::block_on;

    use super::*;
    use crate::schema;

    const LIMITS: Limits = Limits {
        depth: 10,
        complexity: 2000,
        introspection: true,
    };

    fn read(text: &str) -> Result<Document, ServerError> {
        super::read(text, None, &Variables::default(), &LIMITS)
    }

    /// Every type that an argument has may be a variable's.
    #[test]
    fn the_input_types_are_those_of_the_schema() {
        let text = schema::build(true).sdl();
        let defined = text.lines().filter_map(|line| {
            let (kind, rest) = line.split_once(' ')?;
            let is_input = ["enum", "input", "scalar"].contains(&kind);
            is_input.then(|| rest.split(' ').next().unwrap_or_default())
        });
        let mut defined: Vec<&str> = defined.filter(|name| *name != "JobStatus").collect();
        defined.extend(["Boolean", "Float", "ID", "Int", "String"]);
        defined.sort_unstable();
        assert_eq!(defined, INPUT_TYPES);
    }

    /// Parts of documents, good and bad, thrown together: whatever comes of them is a result or an error, and no panic, which would end an instance.
    #[test]
    fn no_document_makes_the_library_panic() {
        const PARTS: [&str; 56] = [
            "{",
            "}",
            "(",
            ")",
            "[",
            "]",
            ":",
            "!",
            "=",
            "...",
            "$a",
            "$b",
            "@skip(if: true)",
            "@include(if: $a)",
            "@deprecated",
            "query",
            "mutation",
            "subscription",
            "fragment f on Query",
            "fragment g on Task",
            "...f",
            "...g",
            "... on Task",
            "... on Nothing",
            "tasks",
            "task",
            "jobs",
            "job(jobId: 1)",
            "task(taskId: \"1\")",
            "tasks(filters: {limit: 1})",
            "tasks(filters: $a)",
            "filters: {status: PENDING}",
            "createTask(input: {type: \"t\"})",
            "taskChanged(taskId: 1)",
            "($a: Int = 5)",
            "($a: [Nothing] = [1])",
            "($a: TaskFilters = {limit: \"x\"})",
            "($a: JSON, $b: [[ID!]!]!)",
            "id",
            "payload",
            "total",
            "status",
            "__typename",
            "__schema",
            "__type(name: \"Task\")",
            "types",
            "fields",
            "name",
            "\"text\"",
            "\"\"\"block\"\"\"",
            "1",
            "-1.5e3",
            "null",
            "true",
            "WORD",
            "# comment\n",
        ];
        let schema = schema::build(true);
        let mut state = 88_172_645_463_325_252_u64;
        let mut next = |below: usize| {
            // xorshift64
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state % below as u64).unwrap()
        };
        let (mut parsed, mut documents) = (0, 0);
        for _ in 0..30_000 {
            let mut text =
                String::from(["", "{", "query ($a: Int) {", "{ tasks { tasks {"][next(4)]);
            for _ in 0..next(14) {
                text += PARTS[next(PARTS.len())];
                text += " ";
            }
            let open = text
                .matches('{')
                .count()
                .saturating_sub(text.matches('}').count());
            text += &"}".repeat(open);
            documents += 1;
            let Ok(document) = read(&text) else { continue };
            parsed += 1;
            let mut request = Request::new("");
            request.operation_name = document.name;
            request.set_parsed_query(document.parsed);
            drop(block_on(schema.execute(request)));
        }
        println!("{documents} documents, {parsed} of them parsed");
        assert!(parsed > 300, "only {parsed}");
    }

    #[test]
    fn strings_and_comments_hold_no_brackets() {
        let many = "{[(".repeat(100);
        for text in [
            format!("{{ a(b: \"{many}\") }}"),
            format!("{{ a(b: \"\\\"{many}\") }}"),
            format!("{{ a(b: \"\"\"{many} \\\"\"\" \" {many}\"\"\") }}"),
            format!("{{ a }} # {many}\n # {many}"),
        ] {
            assert!(check_text(&text).is_ok(), "{text}");
        }
        for text in [
            many.clone(),
            format!("\"\" {many}"),
            format!("\"\"\"\"\"\" {many}"),
            format!("# \"\n{many}"),
            format!("\"open\n{many}"),
        ] {
            assert!(check_text(&text).is_err(), "{text}");
        }
    }
}
