//! `GET /api/collab/health`: whether the database answers, for anybody who asks.

use millrace_tests::app::App;
use reqwest::Method;

const PATH: &str = "/api/collab/health";

#[tokio::test]
async fn anybody_may_ask() {
    let app = App::start().await;
    let bare = || app.api.bare(Method::GET, PATH);
    for request in [
        bare(),
        bare().header("x-api-key", "wrong"),
        bare().bearer_auth("wrong"),
        app.api.request(Method::GET, PATH),
    ] {
        let health = app.api.send(request).await.ok();
        assert_eq!(health["ok"], true);
        assert_eq!(health.as_object().map(serde_json::Map::len), Some(2));
        let sql = "select abs(extract(epoch from clock_timestamp() - $1::text::timestamptz)) < 60";
        assert!(
            app.database
                .one(sql, &[&health["timestamp"].as_str()])
                .await
                .get::<_, bool>(0),
            "{health}"
        );
    }
}

#[tokio::test]
async fn it_needs_no_authentication_to_be_configured() {
    let app = App::start_with(&[("supabase_jwt_secret", ""), ("collab_api_key", "")]).await;
    assert_eq!(app.api.get(PATH).await.ok()["ok"], true);
}

#[tokio::test]
async fn other_methods_are_refused() {
    let app = App::start().await;
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
        let answer = app.api.send(app.api.bare(method, PATH)).await;
        answer.assert_refused(405, "method_not_allowed");
        assert_eq!(answer.header("allow"), "GET, HEAD");
    }
    let head = app.api.send(app.api.bare(Method::HEAD, PATH)).await;
    assert_eq!((head.status, head.text.as_str()), (200, ""));
}
