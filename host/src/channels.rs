//! What the program does for channels, the components that have a handler composed in: it has each look at its configuration at the start, and it
//! wakes them when somebody enqueues by SQL, who can't call them himself.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::{TryStreamExt, stream};
use http::StatusCode;
use http::header::CONTENT_LENGTH;
use reqwest::{Client, RequestBuilder, redirect};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_postgres::AsyncMessage;
use url::Url;

use crate::database;
use crate::manifest::{Component, Manifest};
use crate::serve::Server;
use crate::up::service_token;

/// The interface by which a component is told to have a handler.
const HANDLER: &str = "millrace:worker/handler@0.1.0";

/// What enqueues notify, with the queue as the payload (`sql/V26__channels.sql`).
const NOTIFICATIONS: &str = "millrace_wake";

/// A drain looks at its configuration, or says that it runs, and does nothing else before it answers.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// How often the connection that listens is asked whether it still does, and how long it may take to answer: on a connection that a firewall forgot, or whose
/// server went without a word, nothing is heard and nothing fails.
const STILL_THERE: Duration = Duration::from_secs(60);
const STILL_THERE_ANSWER: Duration = Duration::from_secs(10);

/// How long to wait before listening again after the database went: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Whether a component is a channel's: it has a handler composed in.
pub fn has_handler(component: &Component) -> bool {
    (component.dependencies.iter()).any(|dependency| dependency.name.matches(HANDLER))
}

/// The component and the route of each channel.
fn channels(manifest: &Manifest) -> Vec<(&str, &str)> {
    let has_handler = |id: &str| manifest.components.get(id).is_some_and(has_handler);
    let triggers = manifest.http.iter();
    triggers
        .filter(|trigger| {
            has_handler(&trigger.component)
                && !trigger.route.contains("/:")
                && !trigger.route.contains("...")
        })
        .map(|trigger| (trigger.component.as_str(), trigger.route.as_str()))
        .collect()
}

/// A client of the application that runs in this process.
fn client() -> Result<Client> {
    // A credential goes nowhere but to the application.
    let client = Client::builder().redirect(redirect::Policy::none());
    Ok(client.no_proxy().timeout(ANSWER_TIMEOUT).build()?)
}

/// What a channel says of itself.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Said {
    code: String,
    error: String,
    details: String,
    state: String,
    detail: String,
}

/// Asks each channel once whether it can run.
///
/// # Errors
/// Those that are configured wrongly, with the variables that are. A channel that is not configured at all, or can't be asked, is a line in the log.
pub async fn check(server: &Server) -> Result<()> {
    let client = client()?;
    let mut wrong = Vec::new();
    for (component, route) in channels(server.manifest()) {
        let url = format!("http://{}{route}", server.addr());
        let (status, said) = match ask(&client, &url, server).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::warn!(component, "the channel could not be checked: {error:#}");
                continue;
            }
        };
        let detail = &said.detail;
        match (status.as_u16(), said.code.as_str(), said.state.as_str()) {
            (_, "misconfigured", _) if said.details.is_empty() => {
                wrong.push(format!("{component}: {}", said.error));
            }
            (_, "misconfigured", _) => wrong.push(format!("{component}: {}", said.details)),
            (200, _, "idle") => tracing::info!(component, "the channel is idle: {detail}"),
            (200, _, _) => tracing::info!(component, "the channel is ready: {detail}"),
            (status, code, _) => {
                tracing::warn!(component, status, code, "the channel could not be checked");
            }
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    bail!("configured wrongly: {}", wrong.join("; "))
}

/// Asks with one credential of the application after another until one is good for it: which it takes depends on how it is configured.
async fn ask(client: &Client, url: &str, server: &Server) -> Result<(StatusCode, Said)> {
    let variable = |name: &str| server.variable(name).unwrap_or_default();
    let secret = variable("supabase_jwt_secret");
    let token = match secret {
        "" => None,
        secret => Some(service_token(
            secret,
            Some(variable("collab_jwt_issuer")).filter(|issuer| !issuer.is_empty()),
            Some(variable("collab_jwt_audience")).filter(|audience| !audience.is_empty()),
        )?),
    };
    let keys = ["collab_api_key", "tick_key"].map(variable);
    let with_key = keys.into_iter().filter(|key| !key.is_empty());
    let requests = with_key
        .map(|key| client.get(url).header("x-api-key", key))
        .chain(token.map(|token| client.get(url).bearer_auth(token)));
    let mut refused = None;
    for request in requests {
        let answer = send(request).await?;
        if !matches!(answer.0, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Ok(answer);
        }
        refused = Some(answer);
    }
    refused.context("the application has no credential of its own")
}

async fn send(request: RequestBuilder) -> Result<(StatusCode, Said)> {
    let answer = request.send().await.map_err(reqwest::Error::without_url)?;
    let status = answer.status();
    let text = answer.text().await.map_err(reqwest::Error::without_url)?;
    Ok((status, serde_json::from_str(&text).unwrap_or_default()))
}

/// Listens for enqueues by SQL until it is dropped.
pub struct Listener(JoinHandle<()>);

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Listens, if there is something to listen to (`database_url` is a Postgres) and channels are to be woken: `wake_url` is set, and so is `tick_key`,
/// which is the `wake_key` of the functions in this application's manifest.
///
/// # Errors
/// No HTTP client can be made.
pub fn listen(server: &Server) -> Result<Option<Listener>> {
    let variable = |name: &str| server.variable(name).unwrap_or_default().trim().to_owned();
    let (url, key) = (variable("database_url"), variable("tick_key"));
    if !url.starts_with("postgres") || key.is_empty() || variable("wake_url").is_empty() {
        return Ok(None);
    }
    let waker = Waker {
        client: client()?,
        address: server.addr(),
        key: key.into(),
        under_way: Arc::default(),
    };
    Ok(Some(Listener(tokio::spawn(follow(url, waker)))))
}

/// Listens for ever. Meanwhile the tick does what a notification would have done, only later.
async fn follow(url: String, waker: Waker) {
    let mut pause = FIRST_PAUSE;
    loop {
        match follow_once(&url, &waker, &mut pause).await {
            Ok(()) => tracing::info!("the connection that listens for enqueues ended"),
            Err(error) if pause == FIRST_PAUSE => {
                tracing::warn!("channels are not woken by enqueues in SQL for now: {error:#}");
            }
            Err(error) => tracing::debug!("still not listening for enqueues: {error:#}"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Listens until the connection ends.
async fn follow_once(url: &str, waker: &Waker, pause: &mut Duration) -> Result<()> {
    let (client, mut connection) = database::connect_raw(url).await?;
    let messages = stream::poll_fn(move |context| connection.poll_message(context));
    let (heard, mut notifications) = mpsc::unbounded_channel();
    let mut reading = JoinSet::new(); // which ends with this call
    reading.spawn(messages.try_for_each(move |message| {
        if let AsyncMessage::Notification(notification) = message {
            _ = heard.send(notification.payload().to_owned());
        }
        futures::future::ready(Ok(()))
    }));
    client
        .batch_execute(&format!("listen {NOTIFICATIONS}"))
        .await?;
    *pause = FIRST_PAUSE;
    // What was enqueued before anybody listened.
    let due = "select jsonb_array_elements_text(millrace_api.due_channels('{}') -> 'channels')";
    for row in client.query(due, &[]).await? {
        waker.wake(row.get(0));
    }
    loop {
        match timeout(STILL_THERE, notifications.recv()).await {
            Ok(Some(queue)) => waker.wake(queue),
            Ok(None) => return Ok(reading.join_next().await.transpose()?.unwrap_or(Ok(()))?),
            Err(_) => {
                let asked = timeout(STILL_THERE_ANSWER, client.check_connection()).await;
                asked.context("the connection that listens for enqueues does not answer")??;
            }
        }
    }
}

/// Calls drains: of a queue one call at a time, and for whatever comes meanwhile exactly one more.
#[derive(Clone)]
struct Waker {
    client: Client,
    address: SocketAddr,
    key: Arc<str>,
    /// The queues whose drains are being called, and whether each is to be called again.
    under_way: Arc<Mutex<HashMap<String, bool>>>,
}

impl Waker {
    fn wake(&self, queue: String) {
        let mut under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(again) = under_way.get_mut(&queue) {
            *again = true;
            return;
        }
        under_way.insert(queue.clone(), false);
        drop(under_way);
        let waker = self.clone();
        tokio::spawn(async move {
            loop {
                if let Err(error) = waker.call(&queue).await {
                    tracing::debug!("a channel was not woken: {error:#}");
                }
                if !waker.goes_on(&queue) {
                    return;
                }
            }
        });
    }

    /// Whether the queue's drain is to be called once more; if not, nobody calls it any longer.
    fn goes_on(&self, queue: &str) -> bool {
        let mut under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let again = under_way.get_mut(queue).is_some_and(std::mem::take);
        if !again {
            under_way.remove(queue);
        }
        again
    }

    async fn call(&self, queue: &str) -> Result<()> {
        let mut url = Url::parse(&format!("http://{}/channels", self.address))?;
        if let Ok(mut path) = url.path_segments_mut() {
            path.push(queue);
        }
        let request = self.client.post(url).header("x-api-key", &*self.key);
        let request = request
            .header("prefer", "respond-async")
            .header(CONTENT_LENGTH, 0);
        let status = request.send().await?.status();
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            tracing::warn!("a channel cannot be woken: tick_key is not good for it");
        }
        Ok(())
    }
}
