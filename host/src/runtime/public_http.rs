//! Requests to any host: a name is resolved here, and only those of its addresses are connected to that the component may reach. What was
//! looked at is what is connected to, so a name that resolves otherwise a moment later gains nothing.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use http::uri::PathAndQuery;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tokio_rustls::TlsConnector;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

use super::component::Component;
use super::outbound_http::SendResult;

/// The TLS of all connections, with the roots that [`wasmtime_wasi_http::default_send_request`] trusts.
static TLS: LazyLock<Result<TlsConnector, rustls::Error>> = LazyLock::new(|| {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = rustls::RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.into(),
    };
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
});

/// Sends a request to whatever of its host's addresses the component may reach.
///
/// # Errors
/// [`Error::DestinationIpProhibited`] if it has addresses but none of these; else why there is no response.
pub async fn send(
    component: &Component,
    mut request: http::Request<WasiBody>,
    options: RequestOptions,
) -> SendResult {
    let limit = |timeout: Option<Duration>| timeout.unwrap_or(component.limits.outbound_timeout);
    let by = Instant::now() + limit(options.connect_timeout);
    let stream = connect(component, request.uri(), by).await?;
    let shaken = http1::handshake(TokioIo::new(stream));
    let shaken = tokio::time::timeout_at(by, shaken).await;
    let (mut sender, connection) = shaken.map_err(|_| Error::ConnectionTimeout)??;
    // It ends with the future that waits for it, which ends with the guest's interest in the response.
    let connection = wasmtime_wasi::runtime::spawn(connection);

    // What goes over the wire is the path alone (RFC 9112 section 3.2.1); the authority is in the header `host`.
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = Uri::from(path.unwrap_or(PathAndQuery::from_static("/")));
    let answer = timeout(
        limit(options.first_byte_timeout),
        sender.send_request(request),
    )
    .await;
    let answer = answer.map_err(|_| Error::ConnectionReadTimeout)??;
    let pause = limit(options.between_bytes_timeout);
    Ok((
        answer.map(|body| Paced::new(body, pause).boxed_unsync()),
        Box::new(async move { connection.await.map_err(Error::from) }),
    ))
}

/// Both kinds of connection.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn connect(component: &Component, uri: &Uri, by: Instant) -> Result<Box<dyn Stream>, Error> {
    let host = uri.host().ok_or(Error::HttpRequestUriInvalid)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let (scheme, own_port) = match uri.scheme_str() {
        Some("http") => ("http", 80),
        _ => ("https", 443),
    };
    let port = uri.port_u16().unwrap_or(own_port);
    let addresses = resolve(component, scheme, host, port, by).await?;
    let connected = tokio::time::timeout_at(by, TcpStream::connect(&*addresses)).await;
    let connected = connected.map_err(|_| Error::ConnectionTimeout)?;
    let stream = connected.map_err(Error::Connect)?;
    if scheme == "http" {
        return Ok(Box::new(stream));
    }
    let connector = TLS.as_ref().map_err(|_| Error::ConfigurationError)?;
    let name = ServerName::try_from(host)?.to_owned();
    let secured = tokio::time::timeout_at(by, connector.connect(name, stream)).await;
    let secured = secured.map_err(|_| Error::ConnectionTimeout)?;
    Ok(Box::new(secured.map_err(Error::Tls)?))
}

/// Those of a host's addresses that the component may connect to; an address is its own. Resolvers read `127.1` and `0x7f000001` as addresses
/// too, so that no spelling is missed here.
async fn resolve(
    component: &Component,
    scheme: &str,
    host: &str,
    port: u16,
    by: Instant,
) -> Result<Vec<SocketAddr>, Error> {
    let found = tokio::time::timeout_at(by, lookup_host((host, port))).await;
    let unresolved = |_| Error::DnsError {
        rcode: None,
        info_code: None,
    };
    let found: Vec<_> = found
        .map_err(|_| Error::DnsTimeout)?
        .map_err(unresolved)?
        .collect();
    let allowed = |address: &SocketAddr| component.hosts.allows_address(scheme, address.ip(), port);
    let allowed: Vec<_> = found.into_iter().filter(allowed).collect();
    if allowed.is_empty() {
        tracing::warn!(component = %component.id, scheme, host, port,
            "outbound HTTP refused: the host is not on the public internet, and no entry of allowed_outbound_hosts names it");
        return Err(Error::DestinationIpProhibited);
    }
    Ok(allowed)
}

/// A response's body that breaks off where nothing of it comes for too long.
struct Paced {
    body: Incoming,
    pause: Duration,
    alarm: Pin<Box<Sleep>>,
}

impl Paced {
    fn new(body: Incoming, pause: Duration) -> Self {
        Self {
            body,
            pause,
            alarm: Box::pin(sleep_until(Instant::now() + pause)),
        }
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            let next = Instant::now() + self.pause;
            self.alarm.as_mut().reset(next);
            return Poll::Ready(frame.map(|frame| frame.map_err(Error::from)));
        }
        ready!(self.alarm.as_mut().poll(context));
        Poll::Ready(Some(Err(Error::ConnectionReadTimeout)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
