//! `/channels/QUEUE`: the worker of a channel. `POST` runs the handler on the jobs of the variable `queue`; `GET` says whether it is configured.
//! The handler is whatever component is composed in for `millrace:worker/handler` (`[component.*.dependencies]` in spin.toml). What a run
//! does is in the crate `millrace-run`.

use millrace_kit::Reply;
use millrace_run::Handle;
use millrace_worker::{Failure, Job, Misconfiguration, Readiness, Receipt, Verdict};
use spin_sdk::http::Request;
use spin_sdk::http_service;

#[allow(missing_docs)]
mod bindings {
    use spin_sdk::wit_bindgen;

    wit_bindgen::generate!({
        inline: "
            package millrace:drain;
            world drain { import millrace:worker/handler@0.1.0; }
        ",
        path: "../../wit/millrace-worker@0.1.0",
        runtime_path: "spin_sdk::wit_bindgen::rt",
        generate_all,
    });
}

use bindings::millrace::worker::handler as imported;

/// Serves every route.
#[http_service]
async fn handle(request: Request) -> Reply {
    millrace_run::serve::<Composed, _>(request).await
}

/// The handler that this component is composed with. Its bindings' types are those of `millrace-worker`, under other names.
struct Composed;

impl Handle for Composed {
    async fn check() -> Readiness {
        match imported::check().await {
            imported::Readiness::Ready(detail) => Readiness::Ready(detail),
            imported::Readiness::Idle(detail) => Readiness::Idle(detail),
            imported::Readiness::Misconfigured(wrong) => {
                Readiness::Misconfigured(Misconfiguration {
                    variable: wrong.variable,
                    reason: wrong.reason,
                })
            }
        }
    }

    async fn handle(job: Job) -> Result<Receipt, Failure> {
        let job = imported::Job {
            id: job.id,
            queue: job.queue,
            type_: job.type_,
            attempt: job.attempt,
            max_attempts: job.max_attempts,
            payload: job.payload,
            traceparent: job.traceparent,
            deadline: job.deadline,
            resumed: job.resumed,
        };
        match imported::handle(job).await {
            Ok(receipt) => Ok(Receipt {
                id: receipt.id,
                details: receipt.details,
            }),
            Err(failure) => Err(Failure {
                verdict: verdict(failure.verdict),
                code: failure.code,
                message: failure.message,
            }),
        }
    }
}

fn verdict(verdict: imported::Verdict) -> Verdict {
    match verdict {
        imported::Verdict::Retry(delay) => Verdict::Retry(delay),
        imported::Verdict::Dead => Verdict::Dead,
        imported::Verdict::Postpone(delay) => Verdict::Postpone(delay),
    }
}
