//! Which hosts a component may call: `allowed_outbound_hosts`, by Spin's rules. Each entry is
//! `scheme://host[:port]`, where `*` stands for any scheme, host or port, `*.domain` for any subdomain, a
//! network in CIDR notation for its addresses, `a..b` for the ports from a up to but not including b, and the
//! host `self` for the application itself.
//!
//! One rule is this host's own: `*` for any host means the public internet. What is not on it (this machine, its networks, a cloud's
//! metadata service) is reached over HTTP only by an entry that names it: its host, a domain above it, or a network that it is in. So a component that
//! calls strangers' URLs is not led to its neighbours, neither by an address nor by a name that resolves to one. Spin has for
//! this `block_networks` in the section `outbound_networking` of its runtime configuration.

use std::net::IpAddr;

use anyhow::{Context, Result, bail, ensure};

/// The hosts that one component may call; without an entry, none.
#[derive(Default, Debug)]
pub struct AllowedHosts(Vec<Entry>);

/// Which addresses a host that may be called may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Any: an entry names the host.
    Named,
    /// Those of the public internet, and of networks that entries name.
    Public,
}

#[derive(Debug)]
struct Entry {
    scheme: Option<String>,
    host: Host,
    ports: Ports,
}

#[derive(Debug)]
enum Host {
    Any,
    Itself,
    Name(String),
    Below(String),
    Network(IpAddr, u8),
}

#[derive(Debug)]
enum Ports {
    Any,
    One(u16),
    Range(std::ops::Range<u16>),
}

impl AllowedHosts {
    /// Parses the entries, variables already resolved.
    ///
    /// # Errors
    /// An entry that Spin would refuse or that this host does not support. The error doesn't quote the entry,
    /// since a resolved variable may be a secret: the caller names the template.
    pub fn parse<T: AsRef<str>>(entries: &[T]) -> Result<Self> {
        let entries = entries.iter().map(|entry| Entry::parse(entry.as_ref()));
        Ok(Self(entries.collect::<Result<_>>()?))
    }

    /// Whether a call is allowed; a missing port is the scheme's own.
    pub fn allows(&self, scheme: &str, host: &str, port: Option<u16>) -> bool {
        let host = host.to_ascii_lowercase();
        let port = port.or_else(|| well_known_port(scheme));
        (self.0.iter()).any(|entry| entry.allows(scheme, &host, port))
    }

    /// How far HTTP requests to this host may lead; `None` if they are not allowed. A missing port is the scheme's own.
    pub fn reach(&self, scheme: &str, host: &str, port: Option<u16>) -> Option<Reach> {
        let host = host.to_ascii_lowercase();
        let port = port.or_else(|| well_known_port(scheme));
        let mut allowing = (self.0.iter())
            .filter(|entry| entry.allows(scheme, &host, port))
            .peekable();
        allowing.peek()?;
        Some(
            match allowing.all(|entry| matches!(entry.host, Host::Any)) {
                true => Reach::Public,
                false => Reach::Named,
            },
        )
    }

    /// Whether a host of [`Reach::Public`] may be connected to at this address, which its name resolved to.
    pub fn allows_address(&self, scheme: &str, address: IpAddr, port: u16) -> bool {
        let is_named = |entry: &Entry| {
            entry.allows_scheme(scheme)
                && entry.ports.allows(Some(port))
                && matches!(entry.host, Host::Network(network, length) if within(address, network, length))
        };
        public_address::is_public(address) || self.0.iter().any(is_named)
    }

    /// Whether the component may call its own application (`http://self`), which is a neighbour too.
    pub fn allows_self(&self, scheme: &str) -> bool {
        let is_named = |entry: &Entry| matches!(entry.host, Host::Itself);
        (self.0.iter()).any(|entry| entry.allows_scheme(scheme) && is_named(entry))
    }
}

impl Entry {
    fn parse(text: &str) -> Result<Self> {
        let Some((scheme, rest)) = text.trim().split_once("://") else {
            bail!(
                "an allowed outbound host has the form scheme://host[:port], '*' allowed for each"
            );
        };
        let (host, port) = rest.rsplit_once(':').unwrap_or((rest, ""));
        let port = match port.split_once('/') {
            Some((port, "")) => port,
            Some(_) => bail!("an allowed outbound host has no path"),
            None => port,
        };
        ensure!(
            scheme == "*" || (!scheme.is_empty() && scheme.chars().all(char::is_alphabetic)),
            "the scheme of an allowed outbound host is letters or '*' (lists are not supported)"
        );
        Ok(Self {
            scheme: (scheme != "*").then(|| scheme.to_owned()),
            host: Host::parse(host.trim())?,
            ports: Ports::parse(port, scheme)?,
        })
    }

    /// `host` in lower case.
    fn allows(&self, scheme: &str, host: &str, port: Option<u16>) -> bool {
        self.allows_scheme(scheme) && self.host.allows(host) && self.ports.allows(port)
    }

    fn allows_scheme(&self, scheme: &str) -> bool {
        self.scheme.as_ref().is_none_or(|allowed| allowed == scheme)
    }
}

impl Host {
    fn parse(host: &str) -> Result<Self> {
        if host == "*" {
            return Ok(Self::Any);
        }
        if host == "self" || host == "self.alt" {
            return Ok(Self::Itself);
        }
        if let Some(network) = parse_network(host) {
            return Ok(network);
        }
        let host = host.trim_end_matches('/');
        ensure!(
            !host.is_empty(),
            "an allowed outbound host has an empty host"
        );
        ensure!(!host.starts_with('{'), "lists of hosts are not supported");
        ensure!(!host.contains('/'), "an allowed outbound host has no path");
        ensure!(
            !host.ends_with("spin.internal"),
            "service chaining (spin.internal) is not supported by this host"
        );
        if let Some(domain) = host.strip_prefix("*.") {
            ensure!(
                !domain.contains('*'),
                "'*' stands only for a whole host or its first part"
            );
            return Ok(Self::Below(format!(".{domain}")));
        }
        ensure!(
            !host.contains('*'),
            "'*' stands only for a whole host or its first part"
        );
        Ok(Self::Name(host.to_owned()))
    }

    fn allows(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Itself => false,
            Self::Name(name) => name == host,
            Self::Below(suffix) => host.ends_with(suffix.as_str()),
            Self::Network(network, length) => host
                .trim_matches(['[', ']'])
                .parse()
                .is_ok_and(|address| within(address, *network, *length)),
        }
    }
}

fn parse_network(host: &str) -> Option<Host> {
    let (address, length) = host.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let length: u8 = length.parse().ok()?;
    (length <= bits(address).1).then_some(Host::Network(address, length))
}

fn within(address: IpAddr, network: IpAddr, length: u8) -> bool {
    let ((address, width), (network, network_width)) = (bits(address), bits(network));
    // Shifting by the whole width overflows: that is the network of every address.
    let drop = u32::from(width.saturating_sub(length));
    let keep = |bits: u128| bits.checked_shr(drop).unwrap_or(0);
    width == network_width && (length == 0 || keep(address) == keep(network))
}

fn bits(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    }
}

impl Ports {
    fn parse(port: &str, scheme: &str) -> Result<Self> {
        let number = |text: &str| {
            text.parse()
                .context("a port is a number, a range a..b, or '*'")
        };
        if port == "*" {
            return Ok(Self::Any);
        }
        if port.is_empty() {
            let port = well_known_port(scheme).with_context(|| {
                format!("the scheme {scheme:?} has no port of its own: give one, or '*'")
            })?;
            return Ok(Self::One(port));
        }
        match port.split_once("..") {
            Some((from, to)) => Ok(Self::Range(number(from)?..number(to)?)),
            None => Ok(Self::One(number(port)?)),
        }
    }

    fn allows(&self, port: Option<u16>) -> bool {
        match (self, port) {
            (Self::Any, _) => true,
            (Self::One(allowed), Some(port)) => *allowed == port,
            (Self::Range(range), Some(port)) => range.contains(&port),
            (_, None) => false,
        }
    }
}

fn well_known_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        "postgres" => Some(5432),
        "mysql" => Some(3306),
        "redis" => Some(6379),
        "mqtt" => Some(1883),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(entry: &str, scheme: &str, host: &str, port: Option<u16>) -> bool {
        AllowedHosts::parse(&[entry])
            .unwrap()
            .allows(scheme, host, port)
    }

    #[test]
    fn nothing_is_allowed_unless_named() {
        assert!(!AllowedHosts::default().allows("http", "a.example", None));
        assert!(!AllowedHosts::default().allows_self("http"));
    }

    #[test]
    fn scheme_host_and_port_must_all_match() {
        assert!(allows("https://a.example", "https", "A.example", None));
        assert!(allows("https://a.example", "https", "a.example", Some(443)));
        assert!(!allows("https://a.example", "http", "a.example", None));
        assert!(!allows(
            "https://a.example",
            "https",
            "a.example",
            Some(8443)
        ));
        assert!(!allows("https://a.example", "https", "b.example", None));
        assert!(!allows("https://a.example", "https", "x.a.example", None));
        assert!(allows("postgres://db", "postgres", "db", None));
        assert!(allows("http://a.example/", "http", "a.example", None));
        assert!(allows("http://a.example:80/", "http", "a.example", None));
    }

    #[test]
    fn wildcards_networks_and_ranges() {
        assert!(allows("*://*:*", "redis", "anything", Some(1)));
        assert!(allows(
            "http://*.example.com",
            "http",
            "a.b.example.com",
            None
        ));
        assert!(!allows("http://*.example.com", "http", "example.com", None));
        assert!(!allows(
            "http://*.example.com",
            "http",
            "badexample.com",
            None
        ));
        assert!(allows("http://10.0.0.0/8:*", "http", "10.1.2.3", Some(81)));
        assert!(!allows("http://10.0.0.0/8:*", "http", "11.1.2.3", None));
        assert!(allows("http://0.0.0.0/0:*", "http", "11.1.2.3", None));
        assert!(!allows("http://0.0.0.0/0:*", "http", "a.example", None));
        assert!(allows("http://h:3000..3010", "http", "h", Some(3009)));
        assert!(!allows("http://h:3000..3010", "http", "h", Some(3010)));
    }

    #[test]
    fn any_host_is_any_public_one() {
        let hosts = [
            "https://*:*",
            "http://*.corp.example",
            "https://10.1.0.0/16:443",
        ];
        let hosts = AllowedHosts::parse(&hosts).unwrap();
        let reach = |scheme, host, port| hosts.reach(scheme, host, port);
        assert_eq!(reach("https", "a.example", None), Some(Reach::Public));
        assert_eq!(reach("https", "127.0.0.1", Some(9)), Some(Reach::Public));
        assert_eq!(reach("http", "a.Corp.example", None), Some(Reach::Named));
        assert_eq!(reach("https", "10.1.2.3", None), Some(Reach::Named));
        assert_eq!(reach("https", "10.1.2.3", Some(444)), Some(Reach::Public));
        assert_eq!(reach("http", "a.example", None), None);
        for (address, port, is_allowed) in [
            ("8.8.8.8", 9, true),
            ("10.1.2.3", 443, true),
            ("10.1.2.3", 444, false),
            ("10.2.2.3", 443, false),
            ("127.0.0.1", 443, false),
            ("169.254.169.254", 443, false),
            ("::ffff:10.1.2.3", 443, false),
            ("::1", 443, false),
        ] {
            let found = hosts.allows_address("https", address.parse().unwrap(), port);
            assert_eq!(found, is_allowed, "{address}:{port}");
        }
    }

    #[test]
    fn itself_is_not_a_host_name() {
        let hosts = AllowedHosts::parse(&["http://self"]).unwrap();
        assert!(hosts.allows_self("http") && !hosts.allows_self("https"));
        assert!(!hosts.allows("http", "self", None));
        let any = AllowedHosts::parse(&["http://*:*"]).unwrap();
        assert!(!any.allows_self("http"));
    }

    #[test]
    fn what_is_not_supported_is_refused() {
        for entry in [
            "a.example",
            "*",
            "http://a.example/path",
            "http://a.example:80/path",
            "http://a.*.example",
            "http://{a,b}",
            "{http,https}://a",
            "http://a:b",
            "gopher://a",
            "*://a",
            "http://other.spin.internal",
            "insecure:allow-all",
        ] {
            assert!(AllowedHosts::parse(&[entry]).is_err(), "{entry}");
        }
    }
}
