//! Outbound HTTP of guests, WASI 0.2 and 0.3 alike: every request passes `allowed_outbound_hosts` here. Where these allow any
//! host, the request goes out by [`super::public_http`], which looks at the address that a name leads to.

use std::sync::Arc;
use std::time::Duration;

use http::uri::{Authority, Scheme, Uri};
use http_body_util::BodyExt;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks, default_send_request};

use super::component::Component;
use super::public_http;
use crate::outbound::Reach;

/// The host name by which a component reaches its own application; WASI 0.2 guests can't leave the host out.
const SELF_HOST: &str = "self.alt";

/// What came of a request: its response, and what ends when nothing more is to be sent or received.
pub(super) type SendResult = Result<
    (
        http::Response<WasiBody>,
        Box<dyn Future<Output = Result<(), Error>> + Send>,
    ),
    Error,
>;

/// Sends a component's requests.
pub struct OutboundHttp {
    component: Arc<Component>,
}

impl OutboundHttp {
    /// For one instance of a component.
    pub fn new(component: Arc<Component>) -> Self {
        Self { component }
    }

    /// Checks a request's address, and says how far it may lead; a call of the application itself is pointed to its own listener.
    fn direct(&self, uri: &mut Uri) -> Result<Reach, Error> {
        let scheme = uri.scheme_str().unwrap_or("https").to_owned();
        let authority = uri.authority().cloned();
        let hosts = &self.component.hosts;
        let reach = match &authority {
            Some(authority) if authority.host() != SELF_HOST => {
                hosts.reach(&scheme, authority.host(), authority.port_u16())
            }
            _ => hosts.allows_self(&scheme).then_some(Reach::Named),
        };
        let Some(reach) = reach else {
            // The authority could carry a password before an `@`; host and port can't.
            let host = authority.as_ref().map_or("self", |a| a.host());
            let port = authority.as_ref().and_then(|a| a.port_u16());
            tracing::warn!(component = %self.component.id, scheme, host, port,
                "outbound HTTP refused: not in allowed_outbound_hosts");
            return Err(Error::HttpRequestDenied);
        };
        if authority.is_none_or(|authority| authority.host() == SELF_HOST) {
            let own = self.component.own_address.get();
            let own = own.ok_or(Error::DestinationUnavailable)?.to_string();
            let mut parts = uri.clone().into_parts();
            parts.scheme = Some(Scheme::HTTP);
            parts.authority = Authority::try_from(own).ok();
            *uri = Uri::from_parts(parts).map_err(|_| Error::HttpRequestUriInvalid)?;
        }
        Ok(reach)
    }
}

impl WasiHttpHooks for OutboundHttp {
    fn send_request(
        &mut self,
        mut request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = SendResult> + Send> {
        let directed = self.direct(request.uri_mut());
        let options = limited(options, self.component.limits.outbound_timeout);
        let component = Arc::clone(&self.component);
        Box::new(async move {
            if directed? == Reach::Public {
                return public_http::send(&component, request, options).await;
            }
            let (response, io) = default_send_request(request, Some(options)).await?;
            Ok((
                response.map(BodyExt::boxed_unsync),
                Box::new(io) as Box<dyn Future<Output = _> + Send>,
            ))
        })
    }
}

/// A guest may shorten the host's timeouts, not lengthen them.
fn limited(options: Option<RequestOptions>, longest: Duration) -> RequestOptions {
    let options = options.unwrap_or_default();
    let limit = |timeout: Option<Duration>| Some(timeout.unwrap_or(longest).min(longest));
    RequestOptions {
        connect_timeout: limit(options.connect_timeout),
        first_byte_timeout: limit(options.first_byte_timeout),
        between_bytes_timeout: limit(options.between_bytes_timeout),
    }
}
