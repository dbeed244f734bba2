//! An operation whose root holds each field once, as the specification collects fields (section 6.3.2). The library executes every occurrence of a response
//! key, and a mutation would do its work as often; fragments at the root of a subscription it does not look into at all.

use std::collections::{HashMap, HashSet};

use async_graphql::indexmap::IndexMap;
use async_graphql::indexmap::map::Entry;
use async_graphql::parser::types::{
    Directive, DocumentOperations, ExecutableDocument, Field, FragmentDefinition,
    OperationDefinition, OperationType, Selection, SelectionSet,
};
use async_graphql::{Name, Positioned, ServerError, Value as ConstValue, Variables};

use crate::refusal::{code, error};
use crate::variables;

/// The chosen operation of a document alone. Fragments at its root are put in their places, what is skipped there is gone, and fields of one response
/// key are one, with the selections of all. The document must have been validated: a fragment at the root is one of the root's type.
///
/// # Errors
/// Fields of one key that are not the same field with the same arguments, and a condition at the root of a subscription.
pub fn collect(
    document: ExecutableDocument,
    name: Option<&str>,
    given: &Variables,
) -> Result<ExecutableDocument, ServerError> {
    let ExecutableDocument {
        operations,
        fragments,
    } = document;
    let Some(mut operation) = chosen(operations, name) else {
        let why = "operationName: the document has no such operation";
        return Err(error(code::UNRESOLVED, why, None));
    };
    let mut root = Root {
        operation: &operation.node,
        fragments: &fragments,
        given,
        placed: HashSet::new(),
        fields: IndexMap::new(),
    };
    root.take(&operation.node.selection_set.node)?;
    let fields = root.fields.into_values();
    let fields = fields.map(|field| Positioned::new(Selection::Field(field.clone()), field.pos));
    operation.node.selection_set.node.items = fields.collect();
    Ok(ExecutableDocument {
        operations: DocumentOperations::Single(operation),
        fragments,
    })
}

fn chosen(
    operations: DocumentOperations,
    name: Option<&str>,
) -> Option<Positioned<OperationDefinition>> {
    match (operations, name) {
        (DocumentOperations::Single(operation), None) => Some(operation),
        (DocumentOperations::Single(_), Some(_)) => None,
        (DocumentOperations::Multiple(mut operations), Some(name)) => operations.remove(name),
        (DocumentOperations::Multiple(operations), None) => operations.into_values().next(),
    }
}

/// The root of an operation as it is collected.
struct Root<'a> {
    operation: &'a OperationDefinition,
    fragments: &'a HashMap<Name, Positioned<FragmentDefinition>>,
    given: &'a Variables,
    /// The fragments that are in their places; each is there once, so nothing grows beyond the document.
    placed: HashSet<&'a Name>,
    fields: IndexMap<Name, Positioned<Field>>,
}

impl<'a> Root<'a> {
    fn take(&mut self, set: &'a SelectionSet) -> Result<(), ServerError> {
        for selection in &set.items {
            if !self.is_selected(selection.node.directives())? {
                continue;
            }
            match &selection.node {
                Selection::Field(field) => self.add(field)?,
                Selection::InlineFragment(fragment) => {
                    self.take(&fragment.node.selection_set.node)?;
                }
                Selection::FragmentSpread(spread) => {
                    let name = &spread.node.fragment_name.node;
                    if let Some((name, fragment)) = self.fragments.get_key_value(name)
                        && self.placed.insert(name)
                    {
                        self.take(&fragment.node.selection_set.node)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// What `@skip` and `@include` say.
    fn is_selected(&self, directives: &[Positioned<Directive>]) -> Result<bool, ServerError> {
        for directive in directives {
            let wanted = match directive.node.name.node.as_str() {
                "include" => true,
                "skip" => false,
                _ => continue,
            };
            if self.operation.ty == OperationType::Subscription {
                let why = "the field at the root of a subscription takes no @skip and no @include";
                return Err(error(code::VALIDATION_FAILED, why, Some(directive.pos)));
            }
            let condition = directive.node.get_argument("if").map(|value| &value.node);
            let definitions = &self.operation.variable_definitions;
            let condition =
                condition.map(|value| variables::resolved(value, definitions, self.given));
            match condition {
                Some(ConstValue::Boolean(condition)) if condition == wanted => {}
                Some(ConstValue::Boolean(_)) => return Ok(false),
                _ => {
                    let why = "the condition of @skip and @include is true or false";
                    return Err(error(code::BAD_USER_INPUT, why, Some(directive.pos)));
                }
            }
        }
        Ok(true)
    }

    fn add(&mut self, field: &Positioned<Field>) -> Result<(), ServerError> {
        match self.fields.entry(field.node.response_key().node.clone()) {
            Entry::Vacant(entry) => {
                let mut field = field.clone();
                field.node.directives.clear(); // they have been heeded
                entry.insert(field);
            }
            Entry::Occupied(mut entry) => {
                if !is_same(&entry.get().node, &field.node) {
                    let key = entry.key();
                    let why = format!(
                        "fields of the key \"{key}\" conflict: they are not the same field with the same arguments; give them different aliases"
                    );
                    return Err(error(code::VALIDATION_FAILED, why, Some(field.pos)));
                }
                let more = field.node.selection_set.node.items.iter().cloned();
                entry.get_mut().node.selection_set.node.items.extend(more);
            }
        }
        Ok(())
    }
}

fn is_same(one: &Field, other: &Field) -> bool {
    let same_value = |name: &str, value| {
        let value_there = other.get_argument(name).map(|value| &value.node);
        value_there == Some(value)
    };
    one.name.node == other.name.node
        && one.arguments.len() == other.arguments.len()
        && one
            .arguments
            .iter()
            .all(|(name, value)| same_value(&name.node, &value.node))
}

#[cfg(test)]
mod tests {
    use async_graphql::parser::parse_query;
    use serde_json::json;

    use super::*;

    /// The keys of the root, each with how much is selected in it.
    fn collected(text: &str, name: Option<&str>) -> Result<Vec<(String, usize)>, String> {
        let given = Variables::from_json(json!({"yes": true, "no": false}));
        let document = collect(parse_query(text).unwrap(), name, &given).map_err(|e| e.message)?;
        let (_, operation) = document.operations.iter().next().unwrap();
        let items = &operation.node.selection_set.node.items;
        let keys = items.iter().map(|item| match &item.node {
            Selection::Field(field) => (
                field.node.response_key().node.to_string(),
                field.node.selection_set.node.items.len(),
            ),
            other => panic!("{other:?}"),
        });
        Ok(keys.collect())
    }

    fn keys(text: &str) -> String {
        let keys = collected(text, None).unwrap().into_iter();
        let keys: Vec<String> = keys.map(|(key, count)| format!("{key}{count}")).collect();
        keys.join(" ")
    }

    #[test]
    fn each_key_is_there_once() {
        for (text, expected) in [
            ("{ a { x } a { y z } }", "a3"),
            ("{ b a b: b }", "b0 a0"),
            ("{ a(n: 1, m: [2]) { x } a(m: [2], n: 1) { y } }", "a2"),
            (
                "{ ...f a { z } ...f } fragment f on Query { b a { x } ...g } fragment g on Query { c }",
                "b0 a2 c0",
            ),
            (
                "{ ... { a { x } } ... on Query { a { y } b } ...f } fragment f on Query { b ...f }",
                "a2 b0",
            ),
        ] {
            assert_eq!(keys(text), expected, "{text}");
        }
        assert_eq!(keys(&format!("{{ {} }}", "a { x } ".repeat(600))), "a600");
    }

    #[test]
    fn conditions_are_heeded() {
        const VARIABLES: &str =
            "query ($yes: Boolean!, $no: Boolean!, $t: Boolean! = true, $u: Boolean)";
        for (text, expected) in [
            ("a @skip(if: true) b @include(if: true)", "b0"),
            ("a @skip(if: $no) b @skip(if: $yes) c @skip(if: $t)", "a0"),
            (
                "a @include(if: $yes) b @include(if: $no) c @include(if: $t)",
                "a0 c0",
            ),
            ("a @include(if: true) @skip(if: true)", ""),
            (
                "... @skip(if: $yes) { a } ... @include(if: $yes) { b }",
                "b0",
            ),
            ("a { x } a @skip(if: true) { y }", "a1"),
        ] {
            assert_eq!(keys(&format!("{VARIABLES} {{ {text} }}")), expected);
        }
        let spread = "{ ...f @skip(if: true) ...f } fragment f on Query { a }";
        assert_eq!(keys(spread), "a0");
        assert!(collected(&format!("{VARIABLES} {{ a @skip(if: $u) }}"), None).is_err());
    }

    #[test]
    fn what_differs_is_refused() {
        for text in [
            "{ a(n: 1) a(n: 2) }",
            "{ a(n: 1) a }",
            "{ a a(n: 1) }",
            "{ a: b a }",
            "{ a(n: $v) ... on Query { a(n: 1) } }",
            "{ a(n: {x: 1}) a(n: {x: 1, y: 2}) }",
            "subscription { a @include(if: true) }",
            "subscription { ... @skip(if: false) { a } }",
        ] {
            assert!(collected(text, None).is_err(), "{text}");
        }
        assert_eq!(keys("subscription { ... on Subscription { a } a }"), "a0");
    }

    #[test]
    fn the_named_operation_is_taken() {
        let text = "query one { a } query two { b }";
        let found = collected(text, Some("two")).unwrap();
        assert_eq!(found, [("b".to_owned(), 0)]);
        assert!(collected(text, Some("three")).is_err());
    }
}
