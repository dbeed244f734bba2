//! The HTTP side: accepts connections, routes requests to components, and answers for them when they can't.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, RETRY_AFTER};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use uuid::Uuid;
use wasmtime_wasi_http::{Error, WasiBody};

use crate::local_pass::LocalPass;
use crate::routes::{Matched, Routes};
use crate::runtime::component::{Failure, HttpComponent};
use crate::runtime::worker::Phase;
use crate::serve::Limits;

/// Spin answers this path on every host, for load balancers.
const HEALTH: &str = "/.well-known/spin/health";

/// After an error of `accept` (no file descriptors left, say) the next try waits.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// An application's routes and the components behind them.
pub struct Application {
    routes: Routes,
    components: BTreeMap<String, HttpComponent>,
    limits: Limits,
    access_log: bool,
    local_pass: Option<(LocalPass, u16)>,
    requests: Semaphore,
}

impl Application {
    /// Every component that a route names must be in `components`; beside a local pass stands the port that the server listens on.
    pub fn new(
        routes: Routes,
        components: BTreeMap<String, HttpComponent>,
        limits: Limits,
        access_log: bool,
        local_pass: Option<(LocalPass, u16)>,
    ) -> Arc<Self> {
        Arc::new(Self {
            routes,
            components,
            requests: Semaphore::new(limits.concurrent_requests),
            limits,
            access_log,
            local_pass,
        })
    }

    /// Serves connections until the server drains, then waits for those that are still at work.
    pub async fn accept(self: Arc<Self>, listener: TcpListener, mut phase: watch::Receiver<Phase>) {
        let connections = Arc::new(Semaphore::new(self.limits.client_connections));
        let graceful = GracefulShutdown::new();
        let mut open = tokio::task::JoinSet::new();
        let mut draining = std::pin::pin!(async move {
            _ = phase.wait_for(|phase| *phase >= Phase::Draining).await;
        });
        loop {
            while open.try_join_next().is_some() {}
            let accepted = async {
                let permit = connections.clone().acquire_owned().await;
                (listener.accept().await, permit)
            };
            let (accepted, permit) = tokio::select! {
                biased;
                () = &mut draining => break,
                accepted = accepted => accepted,
            };
            let (stream, client) = match accepted {
                Ok(connection) => connection,
                Err(error) => {
                    tracing::warn!("cannot accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let connection = self.clone().connection(stream, client);
            let connection = graceful.watch(connection);
            open.spawn(async move {
                // A client that goes away or sends nonsense is no event of ours.
                if let Err(error) = connection.await {
                    tracing::debug!(%client, "connection: {error}");
                }
                drop(permit);
            });
        }
        drop(listener);
        graceful.shutdown().await;
    }

    fn connection(
        self: Arc<Self>,
        stream: TcpStream,
        client: SocketAddr,
    ) -> auto::Connection<
        'static,
        TokioIo<TcpStream>,
        impl hyper::service::Service<
            Request<Incoming>,
            Response = Response<WasiBody>,
            Error = Infallible,
            Future: Send + 'static,
        >,
        TokioExecutor,
    > {
        // A response that goes out in two writes would else wait for the client's delayed ACK, some 40 ms.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%client, "TCP_NODELAY: {error}");
        }
        // It covers a client that has gone without a word and one whose window stays closed (tcp(7)).
        #[cfg(target_os = "linux")]
        if let Err(error) =
            socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(self.limits.unread_timeout))
        {
            tracing::debug!(%client, "TCP_USER_TIMEOUT: {error}");
        }
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.header_timeout)
            .max_buf_size(self.limits.header_bytes);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(self.limits.header_bytes).unwrap_or(u32::MAX))
            .keep_alive_interval(Some(self.limits.header_timeout));
        let service = service_fn(move |request| {
            let application = self.clone();
            async move { Ok(application.answer(request, client).await) }
        });
        builder
            .serve_connection(TokioIo::new(stream), service)
            .into_owned()
    }

    async fn answer(&self, request: Request<Incoming>, client: SocketAddr) -> Response<WasiBody> {
        let start = Instant::now();
        let method = request.method().clone();
        // Not the query: tokens and personal data travel in it.
        let path = request.uri().path().to_owned();
        let matched = self.routes.find(&path);
        let component = matched.as_ref().map(|matched| matched.component);
        let response = match &matched {
            _ if path == HEALTH => plain_ok(),
            None => refusal(StatusCode::NOT_FOUND, "no such route", "not_found"),
            Some(matched) => self.dispatch(request, matched, client).await,
        };
        if self.access_log {
            let status = response.status().as_u16();
            let ms = start.elapsed().as_secs_f64() * 1000.0;
            tracing::info!(target: "access", %method, path, status, ms = format!("{ms:.1}"), component);
        }
        response
    }

    async fn dispatch(
        &self,
        request: Request<Incoming>,
        matched: &Matched<'_>,
        client: SocketAddr,
    ) -> Response<WasiBody> {
        let path = request.uri().path().to_owned();
        let Some(component) = self.components.get(matched.component) else {
            let cause = "a route names a component that is not there";
            return internal(matched.component, &path, cause);
        };
        let request = match self.prepare(request, matched, client) {
            Ok(request) => request,
            Err(unfit) => return unfit.answer(),
        };
        let waiting = tokio::time::timeout(self.limits.request_timeout, self.requests.acquire());
        let Ok(Ok(_permit)) = waiting.await else {
            return overloaded();
        };
        let start = Instant::now();
        let outcome = component
            .handle(request)
            .await
            .map_err(|failure| match failure {
                // On a busy machine the end of its stuck instance may be noticed before the end of its time.
                Failure::Internal(_) if start.elapsed() >= self.limits.request_timeout => {
                    Failure::TimedOut
                }
                failure => failure,
            });
        match outcome {
            Ok(response) => response,
            Err(Failure::Overloaded) => overloaded(),
            Err(Failure::TimedOut) => {
                tracing::warn!(component = matched.component, path, "a request timed out");
                refusal(
                    StatusCode::GATEWAY_TIMEOUT,
                    "the request took too long",
                    "timeout",
                )
            }
            Err(Failure::Internal(cause)) => internal(matched.component, &path, &cause),
        }
    }

    /// Gives the request the form that components expect: an absolute URI, Spin's headers, a bounded body.
    fn prepare(
        &self,
        request: Request<Incoming>,
        matched: &Matched<'_>,
        client: SocketAddr,
    ) -> Result<Request<WasiBody>, Unfit> {
        let (mut head, body) = request.into_parts();
        let limit = self.limits.body_bytes as u64;
        let announced = (head.headers.get(CONTENT_LENGTH))
            .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|length| length > limit) {
            return Err(Unfit::Body);
        }
        matched
            .set_headers(&mut head.headers, &head.uri, client)
            .map_err(|_| Unfit::Address)?;
        if let Some((pass, port)) = &self.local_pass
            && let Err(why) = pass.put_into(&mut head, client, *port)
        {
            tracing::debug!(path = head.uri.path(), "a request got no local pass: {why}");
        }
        head.uri = absolute(&head.headers, &head.uri).ok_or(Unfit::Address)?;
        let body = Limited::new(body, self.limits.body_bytes).map_err(move |error| {
            match error.downcast::<hyper::Error>() {
                Ok(error) => Error::Hyper(*error),
                Err(error) if error.is::<LengthLimitError>() => {
                    Error::HttpRequestBodySize(Some(limit))
                }
                Err(_) => Error::HttpProtocolError,
            }
        });
        Ok(Request::from_parts(head, body.boxed_unsync()))
    }
}

/// Why a request does not get as far as its component.
enum Unfit {
    Address,
    Body,
}

impl Unfit {
    fn answer(self) -> Response<WasiBody> {
        match self {
            Self::Address => refusal(
                StatusCode::BAD_REQUEST,
                "the request's address is not valid",
                "bad_request",
            ),
            Self::Body => refusal(
                StatusCode::PAYLOAD_TOO_LARGE,
                "the body is too large",
                "body_too_large",
            ),
        }
    }
}

fn absolute(headers: &http::HeaderMap, uri: &Uri) -> Option<Uri> {
    let authority = match (uri.authority(), headers.get(HOST)) {
        (Some(authority), _) => authority.clone(),
        (None, Some(host)) => Authority::try_from(host.as_bytes()).ok()?,
        (None, None) => Authority::from_static("localhost"),
    };
    let path = uri.path_and_query().cloned();
    Uri::builder()
        .scheme(Scheme::HTTP)
        .authority(authority)
        .path_and_query(path.unwrap_or(PathAndQuery::from_static("/")))
        .build()
        .ok()
}

/// What went wrong inside goes to the log under an id, and only the id to the client.
fn internal(component: &str, path: &str, cause: &str) -> Response<WasiBody> {
    let id = Uuid::new_v4();
    tracing::error!(component, path, %id, "a request failed: {cause}");
    let body =
        serde_json::json!({"error": "internal error", "code": "internal", "id": id.to_string()});
    json(StatusCode::INTERNAL_SERVER_ERROR, &body)
}

fn overloaded() -> Response<WasiBody> {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    let mut response = refusal(status, "the server is busy", "overloaded");
    response
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

fn refusal(status: StatusCode, error: &str, code: &str) -> Response<WasiBody> {
    json(status, &serde_json::json!({"error": error, "code": code}))
}

fn json(status: StatusCode, body: &serde_json::Value) -> Response<WasiBody> {
    let mut response = Response::new(full(body.to_string()));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn plain_ok() -> Response<WasiBody> {
    Response::new(full("OK"))
}

fn full(text: impl Into<Bytes>) -> WasiBody {
    Full::new(text.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}
