//! The whole way of an artifact: a worker stores a file and reports it, a reader finds it with its job, gets a link and downloads it.

use millrace_tests::api::Api;
use millrace_tests::local_store::LocalStore;
use millrace_tests::program::{Program, command};
use millrace_tests::scratch::Scratch;
use serde_json::json;

/// Does a job that makes two artifacts, and downloads both through what the job's artifacts say; returns the links.
async fn record_and_download(api: &Api, store: &LocalStore, queue: &str) -> Vec<String> {
    let id = api.assign_one(queue, "render").await;
    let job = api.claim_one(queue, "worker").await.expect("the job");
    let paths = [format!("{queue}/page 1.txt"), format!("{queue}/bild-ü.bin")];
    for path in &paths {
        store.put(
            &format!("artifacts/{path}"),
            format!("made by {id}: {path}"),
        );
    }
    let artifacts: Vec<_> = paths
        .iter()
        .map(|path| json!({ "name": path.rsplit('/').next(), "path": path, "mime": "text/plain" }))
        .collect();
    let report = json!({ "jobId": id, "type": "render", "ok": true, "leaseId": job["lease_id"], "artifacts": artifacts });
    api.result(report).await.ok();

    let recorded = api.get(&format!("/api/collab/artifacts/by-job/{id}")).await;
    let recorded = recorded.ok();
    let items = recorded["items"].as_array().expect("items");
    let mut links = Vec::new();
    for (item, path) in items.iter().zip(&paths) {
        assert_eq!(item["path"], **path);
        let query = [("path", path.as_str()), ("expires", "60")];
        let query = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(query)
            .finish();
        let signed = api
            .get(&format!("/functions/v1/sign-artifact?{query}"))
            .await;
        let signed = signed.ok();
        let link = signed["url"].as_str().expect("a link");
        let file = reqwest::get(link).await.expect("an answer");
        assert_eq!(file.status(), 200, "{link}");
        let content = file.text().await.expect("a body");
        assert_eq!(content, format!("made by {id}: {path}"));
        links.push(link.to_owned());
    }
    assert_eq!(links.len(), paths.len());
    links
}

#[tokio::test]
async fn what_a_job_made_can_be_downloaded() {
    let store = LocalStore::new();
    let app = store.serve(&[]).await;
    record_and_download(&app.api, &store, "renders").await;
}

#[tokio::test]
async fn up_signs_links_with_nothing_configured_and_with_the_same_key_ever_after() {
    let (store, state) = (LocalStore::new(), Scratch::new());
    let up = async || {
        let mut command = command(&["up", "--listen", "127.0.0.1:0", "--state"]);
        command
            .arg(state.path())
            .arg("--manifest")
            .arg(store.manifest());
        let program = Program::start(command);
        let said = program.until("Ctrl-C ends it").await;
        let after = |words: &str| {
            let rest = said.split(words).nth(1);
            let word = rest.and_then(|rest| rest.split_whitespace().next());
            word.expect(words).to_owned()
        };
        let base = after("Millrace serves ");
        (program, Api::new(&base, &after("API key ")), base)
    };
    let (first, api, base) = up().await;
    let links = record_and_download(&api, &store, "renders").await;
    first.end("TERM").await;

    // As an earlier version left it, which knew no such key: one is made, and kept.
    let file = state.path().join("keys.json");
    let read = || -> serde_json::Value {
        let text = std::fs::read_to_string(&file).expect("the keys");
        serde_json::from_str(&text).expect("JSON")
    };
    let (second, _, again) = up().await;
    for link in &links {
        let moved = link.replace(&base, &again);
        assert_eq!(reqwest::get(moved).await.expect("an answer").status(), 200);
    }
    second.end("TERM").await;

    let mut keys = read();
    let old = keys
        .as_object_mut()
        .expect("keys")
        .remove("artifact_signing_key");
    std::fs::write(&file, keys.to_string()).expect("the keys");
    let (third, _, again) = up().await;
    let new = read()["artifact_signing_key"].clone();
    assert!(new.as_str().is_some_and(|key| key.len() == 64) && Some(new) != old);
    let moved = links[0].replace(&base, &again);
    assert_eq!(reqwest::get(moved).await.expect("an answer").status(), 403);
    third.end("TERM").await;
}
