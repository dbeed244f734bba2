//! Who may use a route: tries it with every kind of caller.

use reqwest::RequestBuilder;

use crate::app::App;
use crate::keys::token;

/// The scopes that a stored key can have.
const SCOPES: [&str; 6] = ["enqueue", "work", "read", "operate", "metrics", "tick"];

/// Fails unless `bare`, a request without credentials, is let in exactly where the caller has `scope`: with the application's
/// key, with tokens of the roles that have it, and with stored keys that have it. Returns how many callers it has tried.
pub async fn assert_scope(app: &App, scope: &str, bare: impl Fn() -> RequestBuilder) -> usize {
    let mut tried = 0;
    let mut refused = async |who: &str, request: RequestBuilder, status: u16, code: &str| {
        tried += 1;
        let answer = app.api.send(request).await;
        assert_eq!(
            answer.status, status,
            "{who}, where {scope} is needed: {}",
            answer.text
        );
        answer.assert_refused_by_any_face(status, code);
    };
    let stored = |key: &str| bare().header("x-api-key", key);
    let bearer = |role: &str| bare().bearer_auth(token(role));
    let readable = matches!(scope, "read" | "metrics");

    refused("nobody", bare(), 401, "missing_credentials").await;
    refused("a wrong key", stored("wrong"), 401, "invalid_api_key").await;
    let unknown = format!("mr_{}", "0".repeat(64));
    refused("a key never made", stored(&unknown), 401, "invalid_api_key").await;
    refused("anon", bearer("anon"), 403, "forbidden").await;
    if !readable {
        refused("a reader", bearer("reader"), 403, "forbidden").await;
    }
    let others: Vec<&str> = SCOPES.into_iter().filter(|one| *one != scope).collect();
    let other = key(app, &others).await;
    refused(
        "a key of all other scopes",
        stored(&other),
        403,
        "forbidden",
    )
    .await;
    refused(
        "the same as Supabase's clients send it",
        bare().header("apikey", &other).bearer_auth(&other),
        403,
        "forbidden",
    )
    .await;

    let own = key(app, &[scope]).await;
    let mut admitted = vec![
        ("a key of this scope", stored(&own)),
        ("the same as a bearer", bare().bearer_auth(&own)),
        ("a service role", bearer("service_role")),
        (
            "a service role as Supabase's clients send it",
            bare().header("apikey", token("service_role")),
        ),
    ];
    if readable {
        admitted.push(("a reader", bearer("reader")));
    }
    for (who, request) in admitted {
        tried += 1;
        let answer = app.api.send(request).await;
        assert!(
            ![401, 403].contains(&answer.status),
            "{who}, who has {scope}: {}",
            answer.text
        );
    }
    tried
}

/// A stored key with these scopes.
async fn key(app: &App, scopes: &[&str]) -> String {
    let name = uuid::Uuid::new_v4().to_string();
    app.database
        .one("select millrace.create_api_key($1, $2)", &[&name, &scopes])
        .await
        .get(0)
}
