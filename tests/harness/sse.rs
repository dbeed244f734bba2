//! A client of an event stream (WHATWG HTML section 9.2) that is stricter than browsers: a line that is no field fails the test.

use futures::StreamExt;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use sse_stream::{Sse, SseStream};

use crate::api::Api;
use crate::deadline::PATIENCE;

/// Where the streams are.
pub const PATH: &str = "/api/collab/events/stream";

/// A stream that is open until this is dropped.
pub struct Stream {
    stream: SseStream<reqwest::Body>,
    /// What a browser would bring back as `Last-Event-ID`.
    pub place: Option<String>,
}

/// The request for a stream, with the API key, from behind `place` on.
pub fn request(api: &Api, query: &str, place: Option<&str>) -> RequestBuilder {
    let request = api.request(Method::GET, &format!("{PATH}?{query}"));
    match place {
        Some(place) => request.header("Last-Event-ID", place),
        None => request,
    }
}

impl Stream {
    /// Opens one, which must be let in.
    pub async fn open(request: RequestBuilder) -> Self {
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), 200);
        for (name, value) in [
            ("content-type", "text/event-stream"),
            ("cache-control", "no-store, no-transform"),
            ("x-accel-buffering", "no"),
        ] {
            assert_eq!(response.headers()[name], value);
        }
        assert!(!response.headers().contains_key("content-length"));
        Self {
            stream: SseStream::new(reqwest::Body::from(response)),
            place: None,
        }
    }

    /// The next thing that is said, be it a mere sign of life; none where the stream has ended.
    pub async fn next(&mut self) -> Option<Sse> {
        let next = tokio::time::timeout(PATIENCE, self.stream.next()).await;
        let said = next.expect("the stream says something, or ends")?;
        let said = said.expect("a well-formed stream that does not break off");
        if let Some(place) = &said.id {
            self.place = Some(place.clone());
        }
        Some(said)
    }

    /// The next event: its type, and its data. None where the stream has ended.
    pub async fn event(&mut self) -> Option<(String, Value)> {
        loop {
            let said = self.next().await?;
            if let Some(data) = said.data {
                let data = serde_json::from_str(&data).expect("an event is JSON");
                return Some((said.event.expect("an event has a type"), data));
            }
        }
    }

    /// The types of all events up to the stream's end.
    pub async fn rest(mut self) -> Vec<String> {
        let mut rest = Vec::new();
        while let Some((kind, _)) = self.event().await {
            rest.push(kind);
        }
        rest
    }
}
