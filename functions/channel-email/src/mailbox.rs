//! One email address, perhaps with a name.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use email_address::{EmailAddress, Options};

/// A name and an address; neither has a control character, and the address is one alone.
#[derive(Debug, PartialEq, Eq)]
pub struct Mailbox {
    name: Option<String>,
    address: String,
}

impl Mailbox {
    /// Reads `a@example.com` or `Ann <a@example.com>`.
    ///
    /// # Errors
    /// Why it is neither, in words that follow the field's name.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.chars().any(char::is_control) {
            return Err("has control characters");
        }
        let options = Options::default()
            .with_display_text()
            .with_required_tld()
            .without_domain_literal();
        // Suppressions look an address up by what stands in the job, without ASCII's spaces alone; so no other may be passed over here.
        let address = text.rsplit('<').next().unwrap_or(text);
        if address.contains(|c: char| c.is_whitespace() && c != ' ') {
            return Err("is not one email address");
        }
        let parsed = EmailAddress::parse_with_options(text.trim_ascii(), options)
            .map_err(|_| "is not one email address")?;
        // In a quoted local part there may be a whole second address, and not everybody on the way reads quotes.
        if parsed.local_part().starts_with('"') {
            return Err("is not one email address");
        }
        let name = name(parsed.display_part().trim()).ok_or("is not one email address")?;
        Ok(Self {
            name: Some(name).filter(|name| !name.is_empty()),
            address: parsed.email(),
        })
    }

    /// The address alone.
    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// As a header has it, but for the encoding of what is not ASCII.
    pub fn header(&self) -> String {
        match &self.name {
            None => self.address.clone(),
            Some(name) => format!("{} <{}>", quoted(name), self.address),
        }
    }

    /// As a header has it, in ASCII: a name with other letters is made of encoded words (RFC 2047).
    pub fn ascii_header(&self) -> String {
        match &self.name {
            Some(name) if !name.is_ascii() => {
                format!("{} <{}>", encoded_words(name), self.address)
            }
            _ => self.header(),
        }
    }
}

/// A name as RFC 5322 has it: a quoted string, unless it consists of letters, digits and spaces.
fn quoted(name: &str) -> String {
    if name.chars().all(|c| c.is_alphanumeric() || c == ' ') {
        return name.to_owned();
    }
    let escaped = name.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{escaped}\"")
}

/// The name that a display name says: a quoted string, or text without the characters that separate addresses. The parser of addresses takes
/// whatever stands before the last `<` for it.
fn name(display: &str) -> Option<String> {
    let Some(inner) = display.strip_prefix('"') else {
        let is_plain = !display.contains(|c| "()<>[]:;@\\,\"".contains(c));
        return is_plain.then(|| display.to_owned());
    };
    let mut text = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    loop {
        match characters.next()? {
            '"' => return characters.as_str().is_empty().then_some(text),
            '\\' => text.push(characters.next()?),
            c => text.push(c),
        }
    }
}

/// Encoded words of at most 75 characters, with spaces between them, which are no part of the text.
fn encoded_words(text: &str) -> String {
    let mut words = vec![String::new()];
    for c in text.chars() {
        // 45 bytes are 60 characters of base64.
        match words.last_mut() {
            Some(word) if word.len() + c.len_utf8() <= 45 => word.push(c),
            _ => words.push(c.to_string()),
        }
    }
    let words = words
        .iter()
        .map(|word| format!("=?UTF-8?B?{}?=", STANDARD.encode(word)));
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_with_and_without_names() {
        for (text, header, address) in [
            ("a@example.com", "a@example.com", "a@example.com"),
            (" a@example.com ", "a@example.com", "a@example.com"),
            (
                "Ann <a@example.com>",
                "Ann <a@example.com>",
                "a@example.com",
            ),
            (
                "Ann Lee <a.b+c@mail.example.com>",
                "Ann Lee <a.b+c@mail.example.com>",
                "a.b+c@mail.example.com",
            ),
            (
                "\"Lee, Ann\" <a@example.com>",
                "\"Lee, Ann\" <a@example.com>",
                "a@example.com",
            ),
            (
                "Zoë <z@example.com>",
                "Zoë <z@example.com>",
                "z@example.com",
            ),
        ] {
            let mailbox = Mailbox::parse(text).expect(text);
            assert_eq!(mailbox.header(), header);
            assert_eq!(mailbox.address(), address);
            assert_eq!(Mailbox::parse(&mailbox.header()), Ok(mailbox));
        }
    }

    #[test]
    fn nothing_but_one_address_is_taken() {
        for text in [
            "",
            "a",
            "a@",
            "@example.com",
            "a@localhost",
            "a@[127.0.0.1]",
            "a@example.com, b@example.com",
            "a@example.com,b@example.com",
            "a@example.com;b@example.com",
            "a@example.com b@example.com",
            "Ann <a@example.com>, Bo <b@example.com>",
            "Ann <a@example.com> <b@example.com>",
            "\"Ann\" <a@example.com>, \"Bo\" <b@example.com>",
            "\"Ann <a@example.com>",
            "a@example.com, Bo <b@example.com>",
            "a@example.com\r\nBcc: b@example.com",
            "a@example.com\nBcc: b@example.com",
            "a@example.com\0",
            "Ann\r\n <a@example.com>",
            "Ann\u{85} <a@example.com>",
            "a@exam\tple.com",
            "a@b@example.com",
            "<a@example.com",
            "a..b@example.com",
            "\"a@x.com, b\"@example.com",
            "\"a\"@example.com",
            "Ann <\"a@x.com, b\"@example.com>",
            "a@example.com\u{a0}",
            "\u{a0}a@example.com",
            "Ann <a@example.com>\u{a0}",
            "Ann <a@example.com\u{2003}>",
            "Ann <\u{a0}a@example.com>",
        ] {
            assert!(Mailbox::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_name_in_other_letters_becomes_encoded_words() {
        let mailbox = Mailbox::parse("Zoë <z@example.com>").expect("a mailbox");
        assert_eq!(
            mailbox.ascii_header(),
            "=?UTF-8?B?Wm/Dqw==?= <z@example.com>"
        );
        let long = Mailbox::parse(&format!("{} <z@example.com>", "ë".repeat(60)));
        let header = long.expect("a mailbox").ascii_header();
        assert!(header.is_ascii());
        assert!(header.split(' ').all(|word| word.len() <= 75), "{header}");
    }
}
