//! A small HTTP/1.1 server that plays a service of somebody else's, so that a test can decide what it says and see what it was asked.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The service, for as long as this is kept.
pub struct Double {
    /// `http://HOST:PORT`
    pub url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    serving: JoinHandle<()>,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    /// Path and query string, not decoded.
    pub target: String,
    headers: Vec<(String, String)>,
    pub body: String,
}

impl Seen {
    /// The value of a header, empty where there is none; `name` in lower case.
    pub fn header(&self, name: &str) -> &str {
        let mut headers = self.headers.iter();
        headers
            .find(|(known, _)| known == name)
            .map_or("", |(_, value)| value)
    }
}

/// What the service does about a request.
pub enum Reply {
    /// Status, further header lines (each ending in `\r\n`) and body.
    Answer(u16, &'static str, Vec<u8>),
    /// These bytes, head and all, and the end of the connection.
    Bytes(Vec<u8>),
    /// Nothing, for ever.
    Silence,
    /// Ends the connection without a word.
    HangUp,
}

impl Reply {
    /// An answer of JSON text.
    pub fn json(status: u16, body: impl Into<Vec<u8>>) -> Self {
        let content_type = "content-type: application/json; charset=utf-8\r\n";
        Self::Answer(status, content_type, body.into())
    }
}

impl Double {
    /// Serves on any free port of this machine.
    pub async fn start(reply: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (reply, noted) = (Arc::new(reply), Arc::clone(&seen));
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&reply), Arc::clone(&noted)));
            }
        });
        Self { url, seen, serving }
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("what was seen").clone()
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Serves one request; every answer ends its connection.
async fn serve(
    mut stream: TcpStream,
    reply: Arc<impl Fn(&Seen) -> Reply>,
    noted: Arc<Mutex<Vec<Seen>>>,
) {
    let Some(seen) = read(&mut stream).await else {
        return;
    };
    noted.lock().expect("what was seen").push(seen.clone());
    match reply(&seen) {
        Reply::Answer(status, headers, body) => {
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status} Played\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n"
            );
            // Whoever asked may have heard enough before the end.
            _ = stream.write_all(head.as_bytes()).await;
            _ = stream.write_all(&body).await;
            _ = stream.shutdown().await;
        }
        Reply::Bytes(bytes) => {
            _ = stream.write_all(&bytes).await;
            _ = stream.shutdown().await;
        }
        Reply::Silence => std::future::pending().await,
        Reply::HangUp => (),
    }
}

async fn read(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    let mut more = async |bytes: &mut Vec<u8>| {
        let mut chunk = [0; 4096];
        let length = stream.read(&mut chunk).await.ok()?;
        bytes.extend_from_slice(&chunk[..length]);
        (length > 0).then_some(())
    };
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        more(&mut bytes).await?;
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.lines();
    let mut request = lines.next()?.split(' ');
    let (method, target) = (request.next()?.to_owned(), request.next()?.to_owned());
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let mut seen = Seen {
        method,
        target,
        headers,
        body: String::new(),
    };
    let is_chunked = seen.header("transfer-encoding") == "chunked";
    let is_whole = |body: &[u8]| match is_chunked {
        true => body.ends_with(b"0\r\n\r\n"),
        false => body.len() >= seen.header("content-length").parse().unwrap_or(0),
    };
    while !is_whole(&bytes[end + 4..]) {
        more(&mut bytes).await?;
    }
    let body = String::from_utf8_lossy(&bytes[end + 4..]).into_owned();
    seen.body = match is_chunked {
        true => unchunked(&body),
        false => body,
    };
    Some(seen)
}

/// The text of a chunked body.
fn unchunked(mut body: &str) -> String {
    let mut text = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        text.push_str(rest.get(..size).unwrap_or_default());
        body = rest.get(size + 2..).unwrap_or_default();
    }
    text
}
