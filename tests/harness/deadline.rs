//! Waiting for something that comes by itself, for as long as a test may take and no longer than needed.

use std::future::Future;
use std::time::{Duration, Instant};

/// How long anything may take that a test waits for, on a slow machine too.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Tries until `attempt` answers something, and returns that; fails the test after [`PATIENCE`].
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut attempt: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = attempt().await {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
