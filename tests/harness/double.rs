//! A small HTTP/1.1 server that plays a service of somebody else's, so that a test can decide what it says and see what it was asked.
//! What acts, and is to misbehave at a given point of the exchange, is a `provider`.

use std::sync::{Arc, Mutex};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub use crate::wire::Seen;
use crate::wire::read;

/// The service, for as long as this is kept.
pub struct Double {
    /// `http://HOST:PORT`
    pub url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    serving: JoinHandle<()>,
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
