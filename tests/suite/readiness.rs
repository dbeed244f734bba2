//! `/health` and `/api/health`: figures for anybody, and readiness.
