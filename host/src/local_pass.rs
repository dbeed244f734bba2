//! Opens an application to the programs of this machine, for development (`millrace up --open`): a request that shows no credentials is given some on
//! its way in, so that components need not know of it.
//!
//! A loopback address keeps other machines out, but neither this machine's other users, who are let in knowingly, nor its browser, which any page may
//! have send requests. So a pass is for those alone that no stranger's page can be behind: they name this server by a loopback name or address (a
//! page under a name of its own that resolves here, DNS rebinding, still sends that name), and if they come from a page at all it is one of this
//! server's own (`Origin`, which browsers send with every `POST`, every WebSocket handshake and whatever a page could read the answer of;
//! `Sec-Fetch-Site` for the rest: pictures, scripts, links). Pages of other ports of this machine are strangers too, and so are documents that this server
//! itself serves in a sandbox. (In a browser too old for `Sec-Fetch-Site` a stranger's page can have `GET` requests sent that it does not see the answers of.)
//!
//! What bears the mark of a proxy gets none either, since nobody knows on whose behalf it comes: one of the headers that proxies add, or HTTP/1.0, which
//! nginx speaks to what is behind it unless told otherwise. More can't be known. A proxy that adds no header and names this server as its target (the
//! development servers of Vite and webpack, a tunnel such as `ssh -R`), and a container or virtual machine whose network ends on this machine's loopback
//! (`host.docker.internal`, 10.0.2.2), look like programs of this machine: whoever comes through them acts with the key as well.
//!
//! A request that shows credentials, be they wrong, is left as it is. So what the application calls of its own with a key of a narrow scope keeps
//! that scope, and where a path asks for no credentials, those that it is given mean nothing.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use http::header::{FORWARDED, HOST, ORIGIN, VIA};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Version};

/// The port of `http://` where none is named.
const HTTP_PORT: u16 = 80;

/// Credentials for requests of this machine's programs that show none. No `Debug`: it holds a secret.
pub struct LocalPass {
    header: HeaderName,
    value: HeaderValue,
    /// Headers in which a request shows credentials of its own.
    shown_in: &'static [&'static str],
}

impl LocalPass {
    /// A pass that is `value` in `header`, for requests that have none of the headers `shown_in`.
    ///
    /// # Errors
    /// A name or a value that no header can have.
    pub fn new(header: &str, value: &str, shown_in: &'static [&'static str]) -> Result<Self> {
        let header = HeaderName::try_from(header)?;
        let mut value = HeaderValue::try_from(value)
            .ok()
            .with_context(|| format!("what is to be put into {header} is no header's value"))?;
        value.set_sensitive(true);
        Ok(Self {
            header,
            value,
            shown_in,
        })
    }

    /// Puts the pass into a request that a `client` sent to this server's `port`, if it is for it; else the reason why not.
    pub fn put_into(
        &self,
        head: &mut Parts,
        client: SocketAddr,
        port: u16,
    ) -> Result<(), &'static str> {
        if self
            .shown_in
            .iter()
            .any(|name| head.headers.contains_key(*name))
        {
            return Err("it shows credentials");
        }
        if !client.ip().is_loopback() {
            return Err("it comes from another machine");
        }
        if head.headers.keys().any(is_forwarders) {
            return Err("it was forwarded");
        }
        if head.version < Version::HTTP_11 {
            return Err("it is below HTTP/1.1, as a proxy's may be");
        }
        let host = own_host(head, port).ok_or("its host is no loopback name with our port")?;
        let origin = format!("http://{host}");
        if !all(&head.headers, &ORIGIN, |value| {
            value.eq_ignore_ascii_case(&origin)
        }) {
            return Err("it comes from a page of another origin");
        }
        let site = HeaderName::from_static("sec-fetch-site");
        if !all(&head.headers, &site, |value| {
            matches!(value, "same-origin" | "none")
        }) {
            return Err("a page of another site is behind it");
        }
        head.headers.insert(&self.header, self.value.clone());
        Ok(())
    }
}

/// Whoever reaches an open application may do everything.
///
/// # Errors
/// Other machines may reach `listen`.
pub fn require_loopback(listen: SocketAddr) -> Result<()> {
    ensure!(
        listen.ip().is_loopback(),
        "an open application lets in whoever reaches it, so it listens on a loopback address such as 127.0.0.1:3000, not on {listen}"
    );
    Ok(())
}

/// The host that a request names, in its target, in `Host`, or in both, if it is this server each time.
fn own_host(head: &Parts, port: u16) -> Option<&str> {
    let in_target = head.uri.authority().map(Authority::as_str);
    if in_target.is_some_and(|host| !is_own(host, port))
        || !all(&head.headers, &HOST, |host| is_own(host, port))
    {
        return None;
    }
    let in_header = head.headers.get(HOST).and_then(|host| host.to_str().ok());
    in_header.or(in_target)
}

fn is_own(host: &str, port: u16) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    let name = authority.host();
    let address = name.trim_matches(['[', ']']).parse::<IpAddr>();
    let is_loopback = match address {
        Ok(address) => address.is_loopback(),
        Err(_) => name.eq_ignore_ascii_case("localhost"),
    };
    is_loopback && !host.contains('@') && authority.port_u16().unwrap_or(HTTP_PORT) == port
}

/// Whether a header is one that proxies add to what they forward.
fn is_forwarders(name: &HeaderName) -> bool {
    *name == FORWARDED
        || *name == VIA
        || name.as_str() == "x-real-ip"
        || name.as_str().starts_with("x-forwarded-")
}

/// Whether each value that a header has (there may be none) is a text that will do.
fn all(headers: &HeaderMap, name: &HeaderName, will_do: impl Fn(&str) -> bool) -> bool {
    let mut values = headers.get_all(name).iter();
    values.all(|value| value.to_str().is_ok_and(&will_do))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a request with this target and these headers, from this client, is given the pass by a server on port 3000.
    fn passes(target: &str, headers: &[(&str, &str)], client: &str) -> bool {
        passes_in(Version::HTTP_11, target, headers, client)
    }

    fn passes_in(version: Version, target: &str, headers: &[(&str, &str)], client: &str) -> bool {
        let pass = LocalPass::new("x-api-key", "k", &["x-api-key", "authorization"]).unwrap();
        let mut request = http::Request::builder().version(version).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (mut head, ()) = request.body(()).unwrap().into_parts();
        let put = pass.put_into(&mut head, client.parse().unwrap(), 3000);
        let is_there = head.headers.get("x-api-key").is_some_and(|key| key == "k");
        assert_eq!(put.is_ok(), is_there, "{put:?}");
        is_there
    }

    fn passes_with(headers: &[(&str, &str)]) -> bool {
        let host = [("host", "localhost:3000")];
        passes("/x", &[&host, headers].concat(), "127.0.0.1:50000")
    }

    #[test]
    fn names_of_this_machine_with_our_port_are_ours() {
        for (host, is_ours) in [
            ("localhost:3000", true),
            ("LocalHost:3000", true),
            ("127.0.0.1:3000", true),
            ("127.8.9.1:3000", true),
            ("[::1]:3000", true),
            ("localhost", false),
            ("localhost:3001", false),
            ("localhost.:3000", false),
            ("localhost.evil.example:3000", false),
            ("evil.example:3000", false),
            ("192.168.0.7:3000", false),
            ("0.0.0.0:3000", false),
            ("[::]:3000", false),
            ("127.1:3000", false),
            ("2130706433:3000", false),
            ("127.0.0.1:3000@evil.example", false),
            ("evil.example@127.0.0.1:3000", false),
            ("", false),
        ] {
            let client = "[::1]:50000";
            assert_eq!(passes("/x", &[("host", host)], client), is_ours, "{host}");
        }
        assert!(is_own("localhost", 80) && is_own("[::1]", 80));
    }

    #[test]
    fn every_name_that_a_request_gives_must_be_ours() {
        let client = "127.0.0.1:50000";
        assert!(!passes("/x", &[], client), "none");
        assert!(passes("http://localhost:3000/x", &[], client));
        assert!(!passes(
            "http://evil.example:3000/x",
            &[("host", "localhost:3000")],
            client
        ));
        assert!(!passes(
            "http://localhost:3000/x",
            &[("host", "evil.example:3000")],
            client
        ));
        assert!(!passes_with(&[("host", "evil.example:3000")]));
    }

    #[test]
    fn pages_of_others_get_none() {
        for (headers, is_given) in [
            ([("origin", "http://localhost:3000")].as_slice(), true),
            (
                &[
                    ("origin", "http://localhost:3000"),
                    ("sec-fetch-site", "same-origin"),
                ],
                true,
            ),
            (&[("sec-fetch-site", "none")], true),
            (&[("origin", "https://localhost:3000")], false),
            (&[("origin", "http://localhost:5173")], false),
            (&[("origin", "http://127.0.0.1:3000")], false),
            (&[("origin", "https://evil.example")], false),
            (&[("origin", "null")], false),
            (&[("origin", "")], false),
            (
                &[
                    ("origin", "http://localhost:3000"),
                    ("origin", "https://evil.example"),
                ],
                false,
            ),
            (&[("sec-fetch-site", "cross-site")], false),
            (&[("sec-fetch-site", "same-site")], false),
            (
                &[
                    ("origin", "http://localhost:3000"),
                    ("sec-fetch-site", "cross-site"),
                ],
                false,
            ),
        ] {
            assert_eq!(passes_with(headers), is_given, "{headers:?}");
        }
    }

    #[test]
    fn what_others_forward_gets_none() {
        for header in [
            "x-forwarded-for",
            "x-forwarded-host",
            "forwarded",
            "via",
            "x-real-ip",
        ] {
            assert!(!passes_with(&[(header, "1")]), "{header}");
        }
        assert!(!passes(
            "/x",
            &[("host", "localhost:3000")],
            "192.168.0.7:50000"
        ));
    }

    #[test]
    fn versions_below_1_1_get_none() {
        let host = [("host", "127.0.0.1:3000")];
        for (version, is_given) in [
            (Version::HTTP_09, false),
            (Version::HTTP_10, false),
            (Version::HTTP_11, true),
            (Version::HTTP_2, true),
        ] {
            let given = passes_in(version, "/x", &host, "127.0.0.1:50000");
            assert_eq!(given, is_given, "{version:?}");
        }
    }

    #[test]
    fn whoever_shows_credentials_is_judged_by_them() {
        assert!(!passes_with(&[("authorization", "")]));
        assert!(!passes_with(&[("x-api-key", "wrong")]));
    }

    #[test]
    fn only_loopback_addresses_can_be_opened() {
        for (address, can_be) in [
            ("127.0.0.1:3000", true),
            ("[::1]:0", true),
            ("0.0.0.0:3000", false),
            ("[::]:3000", false),
            ("10.0.0.1:3000", false),
        ] {
            assert_eq!(
                require_loopback(address.parse().unwrap()).is_ok(),
                can_be,
                "{address}"
            );
        }
    }
}
