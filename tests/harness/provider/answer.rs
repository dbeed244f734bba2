//! What a provider answers, before anything goes wrong with it.

use serde_json::Value;

/// Status, headers and body of an answer. `content-length` and `connection` are added when it is sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// An answer without a body.
    pub fn empty(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// An answer of JSON text.
    pub fn json(status: u16, body: &Value) -> Self {
        Self::typed(status, "application/json; charset=utf-8", body.to_string())
    }

    /// An answer of plain text.
    pub fn text(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::typed(status, "text/plain; charset=utf-8", body)
    }

    /// An answer of any content type.
    pub fn typed(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let mut answer = Self::empty(status).with("content-type", content_type);
        answer.body = body.into();
        answer
    }

    /// With one more header.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// The head as HTTP/1.1 writes it, for a body of `length` bytes.
    pub(super) fn head(&self, length: usize) -> String {
        let mut head = format!("HTTP/1.1 {} Played\r\n", self.status);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        // 204 and 304 have no body by definition, and no length of one.
        if !matches!(self.status, 204 | 304) {
            head += &format!("content-length: {length}\r\n");
        }
        head + "connection: close\r\n\r\n"
    }
}
