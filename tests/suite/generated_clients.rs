//! Clients that others' generators make of the OpenAPI document and of the GraphQL schema, and the GraphQL-over-HTTP audits.
