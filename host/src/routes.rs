//! Which component answers a path, by Spin's rules: the library that matches is the one Spin uses. A route is
//! exact, has `:name` for one segment, or ends in `/...` for everything below; exact wins over `:name`, which wins
//! over `/...`, and longer wins over shorter. Spin only warns of a duplicate route; here it is an error.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Result, anyhow, ensure};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use crate::manifest::HttpTrigger;

/// Spin keeps these paths for itself on every host.
const RESERVED_PREFIX: &str = "/.well-known/spin/";

/// The routes of an application.
pub struct Routes(routefinder::Router<Route>);

struct Route {
    component: String,
    /// As in the manifest.
    raw: String,
    /// With a leading slash and without a trailing one.
    tidy: String,
}

/// A path's component, and what the path had in the places of the route.
pub struct Matched<'a> {
    /// The component's id.
    pub component: &'a str,
    route: &'a Route,
    /// What `/...` stood for, with its leading slash.
    path_info: String,
    named: Vec<(String, String)>,
}

impl Routes {
    /// Builds the routes of the manifest's http triggers.
    ///
    /// # Errors
    /// A route that cannot be parsed, a duplicate, or one below Spin's reserved prefix.
    pub fn build(triggers: &[HttpTrigger]) -> Result<Self> {
        let mut router = routefinder::Router::new();
        let mut seen = BTreeMap::new();
        for HttpTrigger { component, route } in triggers {
            let tidy = format!("/{}", route.trim_start_matches('/'));
            let tidy = tidy.strip_suffix('/').unwrap_or(&tidy).to_owned();
            if let Some(other) = seen.insert(tidy.clone(), component) {
                return Err(anyhow!(
                    "the route {route} belongs to both {other} and {component}"
                ));
            }
            ensure!(
                !format!("{tidy}/").starts_with(RESERVED_PREFIX),
                "the route {route} of {component} is reserved"
            );
            let spec = match tidy.strip_suffix("/...") {
                Some(prefix) => format!("{prefix}/*"),
                None => tidy.clone(),
            };
            let handler = Route {
                component: component.clone(),
                raw: route.clone(),
                tidy,
            };
            router
                .add(spec, handler)
                .map_err(|error| anyhow!("the route {route} of {component}: {error}"))?;
        }
        Ok(Self(router))
    }

    /// The best match for a request's path.
    pub fn find(&self, path: &str) -> Option<Matched<'_>> {
        let best = self.0.best_match(path)?;
        let captures = best.captures();
        let path_info = match captures.wildcard() {
            None => String::new(),
            Some(rest) => path_info(rest, path.ends_with('/')),
        };
        let named = captures
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let route = best.handler();
        Some(Matched {
            component: &route.component,
            route,
            path_info,
            named,
        })
    }
}

/// Spin has always kept a trailing slash, the library drops it.
fn path_info(rest: &str, trailing_slash: bool) -> String {
    match (rest.is_empty(), trailing_slash) {
        (true, false) => String::new(),
        (true, true) => "/".to_owned(),
        (false, false) => format!("/{rest}"),
        (false, true) => format!("/{}/", rest.trim_end_matches('/')),
    }
}

impl Matched<'_> {
    /// Sets the `spin-*` request headers that Spin sets, over any that the client sent.
    ///
    /// # Errors
    /// A value that no header can carry (the path came out of a request line, so this is not expected).
    pub fn set_headers(
        &self,
        headers: &mut HeaderMap,
        uri: &Uri,
        client: SocketAddr,
    ) -> Result<()> {
        let host = headers
            .get(http::header::HOST)
            .and_then(|host| host.to_str().ok())
            .or_else(|| uri.authority().map(|authority| authority.as_str()))
            .unwrap_or("localhost");
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let full_url = format!("http://{host}{path}");
        let raw = &self.route.raw;
        let prefix = raw.strip_suffix("/...").unwrap_or(raw);
        // A client's own spin-path-match-* would look like a capture of the route.
        let forged: Vec<HeaderName> = (headers.keys())
            .filter(|name| name.as_str().starts_with("spin-path-match-"))
            .cloned()
            .collect();
        for name in forged {
            headers.remove(name);
        }
        for (name, value) in [
            ("spin-path-info", self.path_info.as_str()),
            ("spin-full-url", &full_url),
            ("spin-matched-route", &self.route.tidy),
            ("spin-base-path", "/"),
            ("spin-raw-component-route", raw),
            ("spin-component-route", prefix),
            ("spin-client-addr", &client.to_string()),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value)?);
        }
        for (name, value) in &self.named {
            let name = format!("spin-path-match-{}", name.to_ascii_lowercase());
            headers.insert(HeaderName::try_from(name)?, HeaderValue::from_str(value)?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(list: &[&str]) -> Result<Routes> {
        let triggers: Vec<_> = list
            .iter()
            .map(|route| HttpTrigger {
                component: format!("c{route}"),
                route: route.to_string(),
            })
            .collect();
        Routes::build(&triggers)
    }

    fn found(routes: &Routes, path: &str) -> String {
        routes
            .find(path)
            .map_or("none".into(), |m| m.route.raw.clone())
    }

    #[test]
    fn exact_beats_named_beats_wildcard_and_longer_beats_shorter() {
        for list in [
            ["/a/b", "/a/:x", "/a/...", "/...", "/a/b/c/..."],
            ["/a/b/c/...", "/...", "/a/...", "/a/:x", "/a/b"],
        ] {
            let routes = routes(&list).unwrap();
            assert_eq!(found(&routes, "/a/b"), "/a/b");
            assert_eq!(found(&routes, "/a/b/"), "/a/b");
            assert_eq!(found(&routes, "/a/z"), "/a/:x");
            assert_eq!(found(&routes, "/a/z/y"), "/a/...");
            assert_eq!(found(&routes, "/a"), "/a/...");
            assert_eq!(found(&routes, "/a/b/c/d"), "/a/b/c/...");
            assert_eq!(found(&routes, "/other"), "/...");
            assert_eq!(found(&routes, "/"), "/...");
        }
    }

    #[test]
    fn a_path_without_a_route_has_none() {
        let routes = routes(&["/api/collab/task.assign", "/"]).unwrap();
        assert_eq!(
            found(&routes, "/api/collab/task.assign"),
            "/api/collab/task.assign"
        );
        assert_eq!(found(&routes, "/api/collab/task"), "none");
        assert_eq!(found(&routes, "/api/collab/task.assign/x"), "none");
        assert_eq!(found(&routes, "/"), "/");
    }

    #[test]
    fn duplicates_and_reserved_routes_are_refused() {
        assert!(routes(&["/a", "/a/"]).is_err());
        assert!(routes(&["/...", "/..."]).is_err());
        assert!(routes(&["/.well-known/spin/x"]).is_err());
    }

    #[test]
    fn the_headers_are_spins() {
        let routes = routes(&["/foo/:userid/..."]).unwrap();
        let uri: Uri = "/foo/42/bar?key=value".parse().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_static("example.org"));
        headers.insert("spin-path-match-evil", HeaderValue::from_static("1"));
        headers.insert("spin-client-addr", HeaderValue::from_static("forged"));
        let client = "127.0.0.1:8777".parse().unwrap();
        let matched = routes.find(uri.path()).unwrap();
        matched.set_headers(&mut headers, &uri, client).unwrap();
        for (name, value) in [
            ("spin-path-info", "/bar"),
            ("spin-full-url", "http://example.org/foo/42/bar?key=value"),
            ("spin-matched-route", "/foo/:userid/..."),
            ("spin-base-path", "/"),
            ("spin-raw-component-route", "/foo/:userid/..."),
            ("spin-component-route", "/foo/:userid"),
            ("spin-client-addr", "127.0.0.1:8777"),
            ("spin-path-match-userid", "42"),
        ] {
            assert_eq!(headers[name], value, "{name}");
        }
        assert!(!headers.contains_key("spin-path-match-evil"));
    }
}
