//! `/graphql`: the schema, its limits, GraphQL over HTTP, and the subscription.
