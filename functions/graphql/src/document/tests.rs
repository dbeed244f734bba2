//! Texts that would hurt, or that the library would take for others, and what operations cost.

use async_graphql::Request;
use futures::executor::block_on;

use super::*;
use crate::schema;

const LIMITS: Limits = Limits {
    depth: 10,
    complexity: 25_000,
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
    const PARTS: [&str; 60] = [
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
        "\"",
        "\"\"\"",
        "\\",
        "#",
        "1",
        "-1.5e3",
        "null",
        "true",
        "WORD",
        "# comment\n",
    ];
    let schema = schema::build(true);
    let mut next = numbers(88_172_645_463_325_252);
    let (mut parsed, mut documents) = (0, 0);
    for _ in 0..30_000 {
        let mut text = String::from(["", "{", "query ($a: Int) {", "{ tasks { tasks {"][next(4)]);
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
        format!("[\"\"\" x\" {many}"),
        format!("[\"\"\" \\\"\"\" \" {many}"),
        format!("# \"\"\"\r{many}"),
    ] {
        assert!(check_text(&text).is_err(), "{text}");
    }
}
/// Quotes, escapes, comments and ends of lines in any order, with more brackets between them than the parser has stack for: what comes through is what the
/// parser too holds for a string or a comment. A thread of the tests has 2 MiB.
#[test]
fn the_parser_finds_no_brackets_that_were_not_counted() {
    const PARTS: [&str; 14] = [
        "\"", "\"", "\"\"\"", "\"\"\"", "\\", "\\\"\"\"", "\\\"", "\\u", "#", "\n", "\r",
        "\u{feff}", " ", "x",
    ];
    let brackets = ["[", "{a:", "[{b:"].map(|open| open.repeat(5000));
    let mut next = numbers(0x9e37_79b9_7f4a_7c15);
    let (mut passed, mut stopped) = (0, 0);
    for _ in 0..10_000 {
        let mut text = String::from("{a(b:[");
        for _ in 0..=next(12) {
            text += PARTS[next(PARTS.len())];
        }
        text += &brackets[next(3)];
        text += ["", "\"", "\"\"\"", "\n"][next(4)];
        match check_text(&text) {
            Ok(()) => {
                passed += 1;
                drop(parse_query(&text));
            }
            Err(_) => stopped += 1,
        }
    }
    println!("{passed} texts parsed, {stopped} stopped");
    assert!(passed > 300 && stopped > 300);
}

/// Numbers below others, ever the same ones (xorshift64).
fn numbers(mut state: u64) -> impl FnMut(usize) -> usize {
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    }
}
