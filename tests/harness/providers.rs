//! The providers that the channels know, as their documents describe them: each checks what it is asked as strictly as it says it does, and has
//! its documented errors ready under names of ours ([`Fault::Told`](crate::provider::Fault::Told)).

pub mod google;
pub mod mailgun;
pub mod messagebird;
pub mod postmark;
pub mod resend;
pub mod sendgrid;
pub mod ses;
pub mod twilio;
pub mod vonage;

use crate::provider::Answer;

/// A documented answer that is no success: its name, status, one header (or two empty texts) and body.
pub type Documented = (
    &'static str,
    u16,
    (&'static str, &'static str),
    &'static str,
);

/// No header worth a word.
pub const PLAIN: (&str, &str) = ("", "");

/// The answer of this name.
fn told(answers: &[Documented], what: &str) -> Answer {
    let found = answers.iter().find(|(name, ..)| *name == what);
    let (_, status, (header, value), body) =
        found.unwrap_or_else(|| panic!("no documented answer is called {what:?}"));
    let answer = match body.is_empty() {
        true => Answer::empty(*status),
        false => Answer::typed(*status, "application/json", *body),
    };
    match header.is_empty() {
        true => answer,
        false => answer.with(header, *value),
    }
}

/// Whether a text can be one address, with or without a name before it.
fn is_one_address(text: &str) -> bool {
    let bare = match text.rsplit_once('<') {
        Some((_, rest)) => rest.strip_suffix('>').unwrap_or_default(),
        None => text,
    };
    let is_plain =
        !bare.contains(|c: char| c.is_control() || c.is_whitespace() || ",;<>".contains(c));
    is_plain && bare.split('@').filter(|part| !part.is_empty()).count() == 2
}
