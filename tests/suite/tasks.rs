//! `/api/tasks`: tasks over REST.
