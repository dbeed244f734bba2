//! Which URLs are called. Whoever may enqueue a job may name a URL, so a URL must not lead to a neighbour of the host's: to itself, its network,
//! a cloud's metadata service.
//!
//! Here the text of a URL is judged: spellings of addresses, and names that never leave a network. A component resolves no names; that one does not
//! lead to a private address is seen to by the host, when it connects (this project's host by itself, Spin by `block_networks` in its runtime
//! configuration).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::Uri;
use http::uri::Authority;

use crate::config::Settings;

/// Names under these never leave a machine or a network (RFC 6761, 6762, 8375; `internal` is ICANN's for private use). `alt` is no DNS at all
/// (RFC 9476): by `self.alt` hosts know the application itself.
const PRIVATE_NAMES: [&str; 6] = [
    "localhost",
    "local",
    "internal",
    "home.arpa",
    "localdomain",
    "alt",
];

/// The least port beside a scheme's own: those below belong to other protocols, whose servers a POST could be smuggled to.
const FIRST_FREE_PORT: u16 = 1024;

/// The longest URL.
const LENGTH: usize = 2048;

/// Reads a URL that may be called under these settings.
///
/// # Errors
/// Why it may not; the sentence does not quote it.
pub fn check(text: &str, settings: &Settings) -> Result<Uri, &'static str> {
    if text.len() > LENGTH {
        return Err("the URL is longer than 2048 characters");
    }
    let uri: Uri = text.parse().map_err(|_| "the URL cannot be read")?;
    let authority = uri.authority().ok_or("the URL has no host")?;
    let own_port = match uri.scheme_str() {
        Some("https") => 443,
        Some("http") if settings.allows_http => 80,
        Some("http") => return Err("the URL is not https, and webhook_allow_http is not set"),
        _ => return Err("the URL is neither https nor http"),
    };
    if authority.as_str().contains('@') {
        return Err("the URL has a user or a password in it");
    }
    let port = port(authority)?.unwrap_or(own_port);
    let host = Host::parse(authority.host())?;
    if settings.allows_private {
        return Ok(uri);
    }
    if !host.is_public() {
        return Err(
            "the URL's host is not on the public internet, and webhook_allow_private is not set",
        );
    }
    if settings.is_own(authority.host(), port) {
        return Err(
            "the URL leads to the application's own services, and webhook_allow_private is not set",
        );
    }
    if port != own_port && port < FIRST_FREE_PORT {
        return Err("the URL's port is that of another protocol");
    }
    Ok(uri)
}

/// The port that is given. What follows a colon and is none is refused: somebody else might read it otherwise.
fn port(authority: &Authority) -> Result<Option<u16>, &'static str> {
    let rest = authority.as_str().strip_prefix(authority.host());
    match rest.map(|rest| rest.strip_prefix(':').unwrap_or(rest)) {
        Some("") => Ok(None),
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits
            .parse()
            .map(Some)
            .map_err(|_| "the URL's port is none"),
        _ => Err("the URL's port is none"),
    }
}

/// The host of a URL, in the one way that it can be read.
enum Host<'a> {
    Address(IpAddr),
    Name(&'a str),
}

impl<'a> Host<'a> {
    fn parse(text: &'a str) -> Result<Self, &'static str> {
        const NO_HOST: &str = "the URL's host is neither a name nor an address";
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(NO_HOST)?;
            let address: Ipv6Addr = inner.parse().map_err(|_| NO_HOST)?;
            return Ok(Self::Address(address.into()));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let mut labels = name.split('.');
        if name.len() > 253 || !labels.clone().all(is_label) {
            return Err(NO_HOST);
        }
        // Resolvers read 127.1, 0177.0.0.1, 2130706433 and 0x7f000001 as addresses: of these spellings only the plain one is let through.
        match labels.next_back().is_some_and(looks_like_number) {
            true if name.len() < text.len() => Err(NO_HOST),
            true => name
                .parse::<Ipv4Addr>()
                .map(|address| Self::Address(address.into()))
                .map_err(|_| NO_HOST),
            false => Ok(Self::Name(name)),
        }
    }

    fn is_public(&self) -> bool {
        match self {
            Self::Address(address) => public_address::is_public(*address),
            // A name of one label is looked for in the network's own domain.
            Self::Name(name) => {
                name.contains('.') && !PRIVATE_NAMES.iter().any(|end| is_below(name, end))
            }
        }
    }
}

/// A part of a name as DNS and hosts files have it; names in other scripts come as Punycode.
fn is_label(label: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=63).contains(&label.len()) && label.bytes().all(is_letter)
}

/// Whether a host that ends in this is meant as an address (the URL standard's "ends in a number").
fn looks_like_number(label: &str) -> bool {
    let is_hexadecimal = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    label.bytes().all(|byte| byte.is_ascii_digit())
        || label
            .strip_prefix("0x")
            .or(label.strip_prefix("0X"))
            .is_some_and(is_hexadecimal)
}

fn is_below(name: &str, end: &str) -> bool {
    let Some(start) = name.len().checked_sub(end.len()) else {
        return false;
    };
    let matches = name
        .get(start..)
        .is_some_and(|tail| tail.eq_ignore_ascii_case(end));
    matches && (start == 0 || name.as_bytes().get(start - 1) == Some(&b'.'))
}

#[cfg(test)]
mod tests;
