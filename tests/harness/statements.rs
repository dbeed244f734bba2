//! Counts the statements that an application runs, on their way to the database.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use url::Url;

/// What stands between an application and its database until this is dropped.
pub struct Counter {
    url: String,
    count: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Counter {
    /// Passes everything on to the database at `url`, which must be reached over TCP and without TLS.
    pub async fn start(url: &str) -> Self {
        let mut url = Url::parse(url).expect("a URL");
        let to = format!(
            "{}:{}",
            url.host_str().expect("a host"),
            url.port().unwrap_or(5432)
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        url.set_host(Some("127.0.0.1")).expect("a host");
        url.set_port(Some(port)).expect("a port");
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let serving = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&to).await.expect("the database");
                let (mut answers, mut asked) = server.into_split();
                let (asking, mut answered) = client.into_split();
                let counted = Arc::clone(&counted);
                tokio::spawn(async move { pass_on(asking, &mut asked, &counted).await });
                tokio::spawn(async move { copy(&mut answers, &mut answered).await });
            }
        });
        Self {
            url: url.into(),
            count,
            serving,
        }
    }

    /// Where an application finds the database.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How many statements there have been.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Passes a client's messages on (PostgreSQL's documentation, 55.7), and counts `Execute`. The first has no type. What cleans a
/// connection of the pool before it is used again is a `Query`, and no statement of the application's.
async fn pass_on(
    mut from: impl AsyncRead + Unpin,
    to: &mut (impl AsyncWriteExt + Unpin),
    count: &AtomicUsize,
) -> std::io::Result<()> {
    let mut is_first = true;
    loop {
        let kind = if is_first { 0 } else { from.read_u8().await? };
        let length = from.read_u32().await?;
        let mut message = vec![0; length.saturating_sub(4) as usize];
        from.read_exact(&mut message).await?;
        if kind == b'E' {
            count.fetch_add(1, Ordering::SeqCst);
        }
        if !is_first {
            to.write_u8(kind).await?;
        }
        to.write_u32(length).await?;
        to.write_all(&message).await?;
        // An offer of TLS or GSSAPI is answered, and then comes the first message.
        let is_offer = is_first && length == 8;
        is_first = is_offer;
    }
}
