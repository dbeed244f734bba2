//! `/api/jobs`: jobs on a cron expression.
