//! The instrument that the tests of deliveries measure with: each fault of a provider, as a client sees it and as the provider's
//! ledger has it.

use std::time::Duration;

use millrace_tests::provider::{
    Answer, Fault, Idempotency, Key, Ledger, Nobody, Provider, RetryAfter, Seen, Service, by_key,
};
use reqwest::{Client, Response};
use serde_json::json;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Sends messages, and knows a header `idempotency-key` for a day.
struct Post {
    keys: Idempotency,
}

impl Post {
    async fn start() -> Provider<Self> {
        let keys = Idempotency::new(DAY);
        Provider::start(Self { keys }).await
    }
}

impl Service for Post {
    fn answer(&mut self, request: &Seen, ledger: &mut Ledger) -> Answer {
        let key = request.header("idempotency-key");
        match self.keys.look(key, &request.body, ledger) {
            Key::Same(answer) => return answer,
            Key::Other => return Answer::json(409, &json!({ "name": "another body" })),
            Key::New => ledger.act(key, "sent"),
        }
        let answer = Answer::json(200, &json!({ "id": format!("message-{}", ledger.acts()) }));
        self.keys.remember(key, &request.body, &answer, ledger);
        answer
    }

    fn error(&mut self, status: u16) -> Answer {
        Answer::json(status, &json!({ "name": "an error" }))
    }

    fn told(&mut self, what: &str, _: &Seen, _: &mut Ledger) -> Answer {
        Answer::json(403, &json!({ "name": what }))
    }
}

async fn ask(url: &str, key: &str, body: &str) -> reqwest::Result<Response> {
    let request = Client::new().post(url).header("idempotency-key", key);
    let request = request.body(body.to_owned());
    request.timeout(Duration::from_millis(300)).send().await
}

/// What a client hears of a request: status and body, or why there is neither.
async fn heard(url: &str, key: &str) -> String {
    let heard = async {
        let response = ask(url, key, "hello").await?;
        let status = response.status().as_u16();
        let retry_after = match response.headers().contains_key("retry-after") {
            true => " with Retry-After",
            false => "",
        };
        let length = response.bytes().await?.len();
        Ok::<_, reqwest::Error>(match length > 1000 {
            true => format!("{status}, too long"),
            false => format!("{status}{retry_after}"),
        })
    };
    heard.await.unwrap_or_else(|error| {
        let why = match (error.is_connect(), error.is_timeout()) {
            (true, _) => "refused",
            (_, true) => "timeout",
            _ => "broken",
        };
        why.to_owned()
    })
}

#[tokio::test]
async fn each_fault_is_heard_and_noted_as_it_says() {
    const LATE: Duration = Duration::from_millis(400);
    let faults = [
        (Fault::ResetBeforeReading, "broken", 0),
        (Fault::ResetBeforeActing, "broken", 0),
        (Fault::ResetAfterActing, "broken", 1),
        (Fault::HalfAnswer, "broken", 1),
        (Fault::SlowAnswer(LATE), "timeout", 1),
        (Fault::ErrorBeforeActing(503), "503", 0),
        (Fault::ErrorAfterActing(502), "502", 1),
        (Fault::TooMany(RetryAfter::Unsaid), "429", 0),
        (
            Fault::TooMany(RetryAfter::Seconds(7)),
            "429 with Retry-After",
            0,
        ),
        (
            Fault::TooMany(RetryAfter::Date(60)),
            "429 with Retry-After",
            0,
        ),
        (Fault::Garbage, "200", 1),
        (Fault::NotHttp, "broken", 1),
        (Fault::Oversized(100_000), "200, too long", 1),
        (Fault::Told("quota"), "403", 0),
    ];
    for (number, (fault, expected, acts)) in faults.into_iter().enumerate() {
        let post = Post::start().await;
        post.plan([fault]);
        let key = format!("job-{number}");
        assert_eq!(heard(&post.url, &key).await, expected, "{fault:?}");
        assert_eq!(post.effects().len(), acts, "{fault:?}");
        assert_eq!(post.faults()[fault.kind()], 1, "{fault:?}");
        // The next one is well, and under the same key there is one effect, whatever became of the first.
        assert_eq!(heard(&post.url, &key).await, "200", "{fault:?}");
        assert_eq!(by_key(&post.effects())[key.as_str()], 1, "{fault:?}");
    }
    println!("{} kinds of faults", faults.len());
    assert_eq!(heard(&Nobody::new().url, "nobody's").await, "refused");
}

#[tokio::test]
async fn a_provider_that_is_slow_to_act_acts_after_its_client_has_gone() {
    let post = Post::start().await;
    post.plan([Fault::SlowToAct(Duration::from_millis(600))]);
    assert_eq!(heard(&post.url, "late").await, "timeout");
    assert!(post.effects().is_empty());
    millrace_tests::deadline::eventually("the late effect", async || {
        (post.effects().len() == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn keys_are_for_one_body_and_for_a_time() {
    let post = Post::start().await;
    for (body, status, effects) in [("a", 200, 1), ("a", 200, 1), ("b", 409, 1)] {
        let response = ask(&post.url, "key", body).await.expect("an answer");
        assert_eq!(response.status(), status);
        assert_eq!(post.effects().len(), effects);
    }
    post.advance(DAY);
    ask(&post.url, "key", "b").await.expect("an answer");
    assert_eq!(post.effects().len(), 2);
}

#[tokio::test]
async fn a_plan_is_for_the_requests_that_it_names() {
    let post = Post::start().await;
    post.plan_for(
        |request| request.path() == "/token",
        [None, Some(Fault::Told("revoked"))],
    );
    let url = |path: &str| format!("{}{path}", post.url);
    for (path, expected) in [
        ("/token", "200"),
        ("/send?a=b", "200"),
        ("/token", "403"),
        ("/token", "200"),
    ] {
        assert_eq!(heard(&url(path), path).await, expected, "{path}");
    }
}

#[tokio::test]
async fn chance_is_decided_by_its_seed() {
    let mut runs = Vec::new();
    for seed in [1, 1, 2] {
        let post = Post::start().await;
        let rates = [
            (Fault::ErrorBeforeActing(500), 0.3),
            (Fault::ResetAfterActing, 0.2),
        ];
        post.by_chance(seed, &rates, |_| true);
        let mut run = Vec::new();
        for number in 0..40 {
            run.push(heard(&post.url, &number.to_string()).await);
        }
        println!("seed {seed}: {:?}", post.faults());
        runs.push(run);
    }
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], runs[2]);
}
