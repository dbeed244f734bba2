//! What the parser would lose of the values that stand in a query: digits of numbers, a field that an input object has twice, and characters beyond the
//! first 65,536 in a string. The text is made ready before it is parsed, and numbers are put back behind it.

use std::collections::HashSet;
use std::fmt::Write as _;

use async_graphql::parser::types::{
    Directive, DocumentOperations, ExecutableDocument, OperationDefinition, Selection, SelectionSet,
};
use async_graphql::{Positioned, ServerError};
use async_graphql_value::Value;
use serde_json::value::RawValue;

use crate::document::string_length;
use crate::exact;
use crate::refusal::{code, error};

/// The text with each number that 64 bits would change as a string, of a NUL and its digits; other strings have no NUL.
///
/// # Errors
/// A NUL, which JSON in Postgres cannot have, and an input object that has a field twice.
pub fn marked(text: &str) -> Result<String, ServerError> {
    if text.contains('\0') {
        return Err(no_nul());
    }
    let mut scan = Scan::default();
    let mut rest = text;
    while !rest.is_empty() {
        let (token, behind) = rest.split_at(token_length(rest));
        scan.take(token)?;
        rest = behind;
    }
    Ok(scan.marked)
}

fn no_nul() -> ServerError {
    let why = "query: a text must not contain the character NUL";
    error(code::BAD_USER_INPUT, why, None)
}

/// How long the token is that a text begins with; what is none is one character.
fn token_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let span = |fits: fn(&u8) -> bool| bytes.iter().take_while(|byte| fits(byte)).count();
    match bytes[0] {
        b'"' => string_length(text),
        b'#' => text.find(['\n', '\r']).unwrap_or(text.len()),
        b'-' | b'0'..=b'9' => {
            span(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'+' | b'.' | b'_'))
        }
        b'_' | b'a'..=b'z' | b'A'..=b'Z' => span(|b| b.is_ascii_alphanumeric() || *b == b'_'),
        _ => text.chars().next().map_or(1, char::len_utf8),
    }
}

/// A bracket that is open.
enum Open<'a> {
    /// Of arguments, definitions of variables or a list, where values stand.
    Values,
    /// Of an input object, with the fields that it has so far.
    Object(HashSet<&'a str>),
    Selections,
}

#[derive(Default)]
struct Scan<'a> {
    marked: String,
    open: Vec<Open<'a>>,
    /// The last token that is neither space nor comment.
    last: &'a str,
}

impl<'a> Scan<'a> {
    fn take(&mut self, token: &'a str) -> Result<(), ServerError> {
        match token.as_bytes()[0] {
            b'"' if !token.starts_with("\"\"\"") => self.marked += &string(token)?,
            b'-' | b'0'..=b'9' if self.is_value() && is_lost(token) => {
                _ = write!(self.marked, "\"\\u0000{token}\"");
            }
            _ => self.marked += token,
        }
        match token.as_bytes()[0] {
            b' ' | b'\t' | b'\n' | b'\r' | b',' | b'#' => return Ok(()),
            b'(' => self.open.push(Open::Values),
            b'{' if self.is_value() => self.open.push(Open::Object(HashSet::new())),
            b'{' => self.open.push(Open::Selections),
            b'[' => self.open.push(Open::Values),
            b')' | b'}' | b']' => _ = self.open.pop(),
            b':' => self.name()?,
            _ => {}
        }
        self.last = token;
        Ok(())
    }

    /// Whether this is among values. Selections are never within them.
    fn is_value(&self) -> bool {
        !matches!(self.open.last(), None | Some(Open::Selections))
    }

    /// A colon makes a name of the last token.
    fn name(&mut self) -> Result<(), ServerError> {
        let Some(Open::Object(names)) = self.open.last_mut() else {
            return Ok(());
        };
        match names.insert(self.last) {
            true => Ok(()),
            false => {
                let why = format!("an input object has the field \"{}\" twice", self.last);
                Err(error(code::VALIDATION_FAILED, why, None))
            }
        }
    }
}

/// Whether a number would not be the same once it was read. What is no number stays for the parser to refuse.
fn is_lost(token: &str) -> bool {
    serde_json::from_str::<&RawValue>(token).is_ok() && !exact::is_kept(token)
}

/// A string with the characters in it that the parser does not know to read: pairs of surrogates, and `\u{…}`.
fn string(token: &str) -> Result<String, ServerError> {
    let mut read = String::with_capacity(token.len());
    let mut rest = token;
    while let Some(at) = rest.find('\\') {
        read.push_str(&rest[..at]);
        rest = &rest[at..];
        let (character, length) = escaped(rest);
        match character {
            Some('\0') => return Err(no_nul()),
            // These would end the string, or begin something else in it.
            Some(plain) if plain.is_control() || matches!(plain, '"' | '\\') => {
                _ = write!(read, "\\u{:04x}", u32::from(plain));
            }
            Some(plain) => read.push(plain),
            None => read.push_str(&rest[..length]),
        }
        rest = &rest[length..];
    }
    Ok(read + rest)
}

/// The character that a `\u` at the start of the text stands for, and how much of the text does; none for another escape, and for what is no character.
fn escaped(text: &str) -> (Option<char>, usize) {
    let hex = |at: usize| {
        let digits = text.get(at..at + 4)?;
        let are_digits = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        are_digits.then(|| u32::from_str_radix(digits, 16).ok())?
    };
    let other = (None, text.chars().take(2).map(char::len_utf8).sum());
    if let Some(code) = text.strip_prefix("\\u{") {
        let Some(end) = code.find('}') else {
            return other;
        };
        let digits = &code[..end];
        let are_digits = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let character = u32::from_str_radix(digits, 16)
            .ok()
            .and_then(char::from_u32);
        return match character.filter(|_| are_digits) {
            Some(character) => (Some(character), 4 + end),
            None => other,
        };
    }
    if !text.starts_with("\\u") {
        return other;
    }
    let second = || text.get(6..8).filter(|it| *it == "\\u").and(hex(8));
    match hex(2) {
        Some(high @ 0xd800..=0xdbff) => match second() {
            Some(low @ 0xdc00..=0xdfff) => {
                let both = 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                (char::from_u32(both), 12)
            }
            _ => other,
        },
        Some(code) => match char::from_u32(code) {
            Some(character) => (Some(character), 6),
            None => other,
        },
        None => other,
    }
}

/// Puts the numbers back that [`marked`] made strings of.
pub fn restore(document: &mut ExecutableDocument) {
    match &mut document.operations {
        DocumentOperations::Single(operation) => restore_operation(&mut operation.node),
        DocumentOperations::Multiple(operations) => {
            let operations = operations.values_mut();
            operations.for_each(|operation| restore_operation(&mut operation.node));
        }
    }
    for fragment in document.fragments.values_mut() {
        restore_directives(&mut fragment.node.directives);
        restore_set(&mut fragment.node.selection_set.node);
    }
}

fn restore_operation(operation: &mut OperationDefinition) {
    for definition in &mut operation.variable_definitions {
        if let Some(default) = &mut definition.node.default_value {
            let value = std::mem::take(&mut default.node).into_value();
            // It has no variables.
            let value = restored(value).into_const().unwrap_or_default();
            default.node = value;
        }
    }
    restore_directives(&mut operation.directives);
    restore_set(&mut operation.selection_set.node);
}

/// The document is measured, so this ends.
fn restore_set(set: &mut SelectionSet) {
    for selection in &mut set.items {
        restore_directives(selection.node.directives_mut());
        match &mut selection.node {
            Selection::Field(field) => {
                for (_, value) in &mut field.node.arguments {
                    value.node = restored(std::mem::take(&mut value.node));
                }
                restore_set(&mut field.node.selection_set.node);
            }
            Selection::InlineFragment(fragment) => {
                restore_set(&mut fragment.node.selection_set.node);
            }
            Selection::FragmentSpread(_) => {}
        }
    }
}

fn restore_directives(directives: &mut [Positioned<Directive>]) {
    for directive in directives {
        for (_, value) in &mut directive.node.arguments {
            value.node = restored(std::mem::take(&mut value.node));
        }
    }
}

fn restored(value: Value) -> Value {
    match value {
        Value::String(text) => match text.strip_prefix('\0') {
            Some(number) => Value::Binary(number.to_owned().into()),
            None => Value::String(text),
        },
        Value::List(items) => Value::List(items.into_iter().map(restored).collect()),
        Value::Object(fields) => {
            let fields = fields.into_iter();
            Value::Object(
                fields
                    .map(|(name, value)| (name, restored(value)))
                    .collect(),
            )
        }
        plain => plain,
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::parser::parse_query;

    use super::*;
    use crate::exact::Exact;

    /// The argument of `{ a(b: …) }`, as JSON.
    fn argument(literal: &str) -> String {
        let text = marked(&format!("{{ a(b: {literal}) }}")).unwrap();
        let mut document = parse_query(text).unwrap();
        restore(&mut document);
        let (_, operation) = document.operations.iter().next().unwrap();
        let Selection::Field(field) = &operation.node.selection_set.node.items[0].node else {
            panic!("no field")
        };
        let value = field.node.arguments[0].1.node.clone();
        serde_json::to_string(&Exact(&value.into_const().unwrap())).unwrap()
    }

    #[test]
    fn every_digit_is_kept() {
        for text in [
            "18446744073709551616",
            "-123456789012345678901234567890",
            "1.10",
            "1e3",
            "0.1234567890123456789012345",
            "5",
            "[1.10,[2.50]]",
            "\"1.10\"",
        ] {
            assert_eq!(argument(text), text);
        }
        assert_eq!(
            argument("{x: 1.10, y: [{x: 2.0}] # 3.0\n}"),
            r#"{"x":1.10,"y":[{"x":2.0}]}"#
        );
        let block = "\"\"\"1.10 \"2.50\" 3.0\"\"\"";
        assert_eq!(argument(block), r#""1.10 \"2.50\" 3.0""#);
    }

    #[test]
    fn what_is_no_number_is_left_to_the_parser() {
        for text in ["1.", "01.0", "1.10x", "1.1.1", "1.0-", "--1"] {
            let text = format!("{{ a(b: {text}) }}");
            assert_eq!(marked(&text).unwrap(), text);
            assert!(parse_query(text).is_err());
        }
    }

    #[test]
    fn strings_have_all_characters_but_nul() {
        for (text, expected) in [
            (r#""\uD83D\uDE00""#, "\"\u{1f600}\""),
            (r#""\u{1F600}\u{41}""#, "\"\u{1f600}A\""),
            (r#""\u00e9\n\"\\u0041""#, r#""\u00e9\n\"\\u0041""#),
            (r#""\u0022\u005c\u{22}""#, r#""\"\\\"""#),
        ] {
            let expected = expected.replace("\\u00e9", "\u{e9}");
            assert_eq!(argument(text), expected, "{text}");
        }
        for text in [
            r#""\u0000""#,
            r#""\u00001""#,
            r#""\u{0}""#,
            "\"\"\"\0\"\"\"",
        ] {
            assert!(marked(text).is_err(), "{text}");
        }
        for text in [
            r#""\uD83D""#,
            r#""\uDE00\uD83D""#,
            r#""\u{110000}""#,
            r#""\u{""#,
            r#""\u"#,
        ] {
            let text = format!("{{ a(b: {text}) }}");
            assert!(parse_query(marked(&text).unwrap()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_field_of_an_input_object_is_there_once() {
        for text in [
            "{ a(b: {x: 1, x: 2}) }",
            "{ a(b: [{y: {x: 1 z: 1 x: 2}}]) }",
            "query ($a: A = {x: 1, x: 1}) { a }",
            "{ a { b(c: {x: 1, # x\n x : 2}) } }",
        ] {
            assert!(marked(text).is_err(), "{text}");
        }
        for text in [
            "{ x: a(b: {x: {x: 1}, y: [{x: 1}, {x: 1}]}) { x: a x: a } }",
            "{ a(x: 1, x: 2) }", // the parser's matter, or the schema's
            ")}]{([",
        ] {
            assert_eq!(marked(text).unwrap(), text);
        }
    }
}
