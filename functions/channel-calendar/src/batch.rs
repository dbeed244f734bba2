//! Google's batch requests (<https://developers.google.com/workspace/calendar/api/guides/batch>): several calls as the parts of one
//! `multipart/mixed` request, each an HTTP request of its own, and their answers as the parts of one answer.
//!
//! Google may run and answer them in any order, so parts are told apart by their `Content-ID`. A part that is not in the answer, or can't be
//! read, has no answer: like a request that broke off, it may have been done.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::answer::Answer;

/// How many calls go into one batch. Google takes more; so many fit its limits of calls a second and our limit of an answer's length.
pub const MOST: usize = 50;
/// No body has it as a line: bodies are JSON, whose line breaks are escaped.
pub const BOUNDARY: &str = "millrace-calendar-batch";
/// More heads than these in a part are not read.
const HEADERS: usize = 64;

/// One call of a batch: method, path with query, and the JSON to send.
pub struct Call {
    pub method: &'static str,
    pub path: String,
    pub body: Option<String>,
}

/// The body of a batch request.
pub fn body<'a>(calls: impl IntoIterator<Item = &'a Call>) -> String {
    let mut text = String::new();
    for (place, call) in calls.into_iter().enumerate() {
        let Call { method, path, body } = call;
        text.push_str(&format!(
            "--{BOUNDARY}\r\ncontent-type: application/http\r\ncontent-id: <call-{place}>\r\n\r\n{method} {path} HTTP/1.1\r\n"
        ));
        if let Some(body) = body {
            let length = body.len();
            text.push_str(&format!(
                "content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
            ));
        } else {
            text.push_str("\r\n");
        }
        text.push_str("\r\n");
    }
    text.push_str(&format!("--{BOUNDARY}--\r\n"));
    text
}

/// The answers to so many calls, each at its call's place.
pub fn answers(content_type: Option<&HeaderValue>, body: &[u8], calls: usize) -> Vec<Answer> {
    let mut answers = vec![Answer::Down("connection_lost"); calls];
    let boundary = content_type.and_then(|value| boundary(value.to_str().ok()?));
    let Some(boundary) = boundary else {
        return answers;
    };
    for part in parts(body, &boundary) {
        if let Some((place, answer)) = read(part)
            && let Some(slot) = answers.get_mut(place)
        {
            *slot = answer;
        }
    }
    answers
}

/// The boundary that a `Content-Type` of `multipart/mixed` names (RFC 2046 section 5.1.1).
fn boundary(content_type: &str) -> Option<String> {
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/mixed") {
        return None;
    }
    let parameter = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("boundary")
            .then_some(value)
    })?;
    let boundary = parameter.trim().trim_matches('"');
    (1..=70)
        .contains(&boundary.len())
        .then(|| boundary.to_owned())
}

/// What stands between the boundaries. What follows the last one without another, the answer having broken off, is no part.
fn parts<'a>(body: &'a [u8], boundary: &str) -> Vec<&'a [u8]> {
    let delimiter = format!("--{boundary}");
    let mut places = Vec::new();
    let mut from = 0;
    while let Some(found) = find(&body[from..], delimiter.as_bytes()) {
        let place = from + found;
        // A delimiter is a line's beginning.
        if place == 0 || body[place - 1] == b'\n' {
            places.push(place);
        }
        from = place + delimiter.len();
    }
    let inner = places.iter().zip(places.iter().skip(1));
    inner
        .map(|(start, end)| &body[start + delimiter.len()..*end])
        .collect()
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

/// A part: its own headers with the call's place, then the answer with status, headers and body.
fn read(part: &[u8]) -> Option<(usize, Answer)> {
    let line = part.iter().position(|byte| *byte == b'\n')?;
    let mut outer = [httparse::EMPTY_HEADER; HEADERS];
    let part = &part[line + 1..];
    let (length, outer) = match httparse::parse_headers(part, &mut outer).ok()? {
        httparse::Status::Complete(parsed) => parsed,
        httparse::Status::Partial => return None,
    };
    let id = outer
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-id"))?;
    let id = std::str::from_utf8(id.value).ok()?;
    let place = id.strip_prefix("<response-call-")?.strip_suffix('>')?;
    let answer = &part[length..];
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = head.parse(answer).ok()? else {
        return None;
    };
    let named = head.headers.iter().filter_map(|header| {
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        Some((name, HeaderValue::from_bytes(header.value).ok()?))
    });
    let headers: HeaderMap = named.collect();
    Some((
        place.parse().ok()?,
        Answer::of(head.code?, &headers, answer[length..].trim_ascii()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const MIXED: HeaderValue = HeaderValue::from_static("multipart/mixed; boundary=\"b_1\"");

    fn part(place: &str, rest: &str) -> String {
        format!(
            "--b_1\r\nContent-Type: application/http\r\nContent-ID: <response-call-{place}>\r\n\r\n{rest}\r\n"
        )
    }

    #[test]
    fn calls_are_parts_of_one_body() {
        let calls = [
            Call {
                method: "DELETE",
                path: "/calendar/v3/calendars/c/events/e".to_owned(),
                body: None,
            },
            Call {
                method: "POST",
                path: "/calendar/v3/calendars/c/events".to_owned(),
                body: Some("{\"id\":\"mr\"}".to_owned()),
            },
        ];
        assert_eq!(
            body(&calls),
            "--millrace-calendar-batch\r\ncontent-type: application/http\r\ncontent-id: <call-0>\r\n\r\n\
             DELETE /calendar/v3/calendars/c/events/e HTTP/1.1\r\n\r\n\r\n\
             --millrace-calendar-batch\r\ncontent-type: application/http\r\ncontent-id: <call-1>\r\n\r\n\
             POST /calendar/v3/calendars/c/events HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 11\r\n\r\n\
             {\"id\":\"mr\"}\r\n--millrace-calendar-batch--\r\n"
        );
    }

    #[test]
    fn answers_come_in_any_order_and_what_is_missing_may_have_been_done() {
        let limited =
            "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 9\r\nContent-Length: 2\r\n\r\n{}";
        let body = [
            part("2", "HTTP/1.1 204 No Content\r\n\r\n"),
            part("0", limited),
            part("7", "HTTP/1.1 204 No Content\r\n\r\n"),
            part("x", "HTTP/1.1 204 No Content\r\n\r\n"),
            "--b_1\r\n\r\nnonsense".to_owned(),
            "--b_1--\r\n".to_owned(),
        ];
        let all = answers(Some(&MIXED), body.concat().as_bytes(), 3);
        let lost = Answer::Down("connection_lost");
        let later = Answer::Limited(Some(Duration::from_secs(9)));
        assert_eq!(all, [later.clone(), lost.clone(), Answer::Done]);
        let half = [&body[0], &body[1]].map(String::as_str).concat();
        let half = answers(Some(&MIXED), half.as_bytes(), 3);
        assert_eq!(half, [lost.clone(), lost.clone(), Answer::Done]);
        assert_eq!(answers(None, body.concat().as_bytes(), 1), [lost]);
    }

    #[test]
    fn whatever_is_answered_is_read_without_a_panic() {
        let whole = [part("0", "HTTP/1.1 200 OK\r\n\r\n{}"), "--b_1--".to_owned()].concat();
        let whole = whole.as_bytes();
        for length in 0..whole.len() {
            answers(Some(&MIXED), &whole[..length], 1);
            let mut changed = whole.to_vec();
            changed[length] = changed[length].wrapping_add(1);
            answers(Some(&MIXED), &changed, 1);
        }
    }
}
