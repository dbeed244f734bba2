//! A query as a document that may be executed: parsed, one operation of it chosen, and known to be neither too deep nor too much before anything
//! walks it. Fragments are measured once each, so a document that would expand without bound costs no more than its text.

use std::collections::HashMap;

use async_graphql::parser::types::{
    ExecutableDocument, Field, FragmentDefinition, OperationDefinition, OperationType, Selection,
    SelectionSet,
};
use async_graphql::parser::{Error as ParseError, parse_query};
use async_graphql::{Name, Pos, Positioned, ServerError};

use crate::refusal::{code, error};

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

/// What a document is held against. [`Limits::complexity`] is what the schema counts; here it bounds how many selections there may be at all.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub depth: usize,
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
pub fn read(text: &str, name: Option<&str>, limits: &Limits) -> Result<Document, ServerError> {
    check_text(text)?;
    let parsed = parse_query(text).map_err(parse_failed)?;
    measure(&parsed, limits)?;
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
    /// Fields and fragments.
    selections: usize,
    /// Fields within fields.
    depth: usize,
    /// Selection sets within selection sets.
    nesting: usize,
    /// Lists of the schema within one another.
    lists: usize,
}

/// Measures every operation and every fragment: what is not executed is validated all the same.
fn measure(document: &ExecutableDocument, limits: &Limits) -> Result<(), ServerError> {
    let mut ruler = Ruler {
        fragments: &document.fragments,
        known: HashMap::new(),
        level: 0,
        limits,
    };
    for name in document.fragments.keys() {
        ruler.fragment(name, Pos::default())?;
    }
    let mut selections = 0_usize;
    for (_, operation) in document.operations.iter() {
        check_directives(operation.node.directives.len(), operation.pos)?;
        let measure = ruler.set(&operation.node.selection_set)?;
        selections = selections.saturating_add(measure.selections);
        if measure.depth > limits.depth {
            let why = format!(
                "the query is {} fields deep; {} are allowed",
                measure.depth, limits.depth
            );
            return Err(error(code::TOO_DEEP, why, Some(operation.pos)));
        }
    }
    check_selections(selections, limits)
}

fn check_selections(selections: usize, limits: &Limits) -> Result<(), ServerError> {
    match selections > limits.complexity {
        true => Err(too_complex(limits.complexity)),
        false => Ok(()),
    }
}

/// A query that asks for too much.
pub fn too_complex(limit: usize) -> ServerError {
    let why = format!(
        "the query asks for too much: each field counts as one, each task that a list may hold as one, and {limit} are allowed"
    );
    error(code::TOO_COMPLEX, why, None)
}

struct Ruler<'a> {
    fragments: &'a HashMap<Name, Positioned<FragmentDefinition>>,
    /// None while a fragment is being measured, so that one within itself is seen.
    known: HashMap<&'a Name, Option<Measure>>,
    /// How many selection sets this is within, on its way down.
    level: usize,
    limits: &'a Limits,
}

impl<'a> Ruler<'a> {
    fn set(&mut self, set: &'a Positioned<SelectionSet>) -> Result<Measure, ServerError> {
        let mut whole = Measure::default();
        self.level += 1;
        check_nesting(self.level, set.pos)?;
        for selection in &set.node.items {
            check_directives(selection.node.directives().len(), selection.pos)?;
            let part = match &selection.node {
                Selection::Field(field) => self.field(field)?,
                Selection::FragmentSpread(spread) => {
                    self.fragment(&spread.node.fragment_name.node, spread.pos)?
                }
                Selection::InlineFragment(fragment) => self.set(&fragment.node.selection_set)?,
            };
            whole.selections = whole.selections.saturating_add(part.selections + 1);
            whole.depth = whole.depth.max(part.depth);
            whole.nesting = whole.nesting.max(part.nesting + 1);
            whole.lists = whole.lists.max(part.lists);
        }
        self.level -= 1;
        check_selections(whole.selections, self.limits)?;
        check_nesting(whole.nesting, set.pos)?;
        Ok(whole)
    }

    fn field(&mut self, field: &'a Positioned<Field>) -> Result<Measure, ServerError> {
        let mut measure = self.set(&field.node.selection_set)?;
        measure.depth += 1;
        match field.node.name.node.as_str() {
            "fields" | "inputFields" | "interfaces" | "possibleTypes" => measure.lists += 1,
            "__schema" | "__type" => {
                self.check_introspection(measure, field.pos)?;
                measure.depth = 1;
            }
            _ => {}
        }
        Ok(measure)
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
                let measure = self.set(&fragment.node.selection_set)?;
                self.known.insert(name, Some(measure));
                Ok(measure)
            }
        }
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
