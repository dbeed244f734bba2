//! The explorer at GET /graphql: a page for browsers, and what it loads.

use millrace_kit::Reply;

/// The page at `/graphql` or one of its files under `/graphql/`; none for another path.
pub fn page(_path: &str) -> Option<Reply> {
    None
}
