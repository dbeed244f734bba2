// A worker that is a user of Supabase's client for PostgREST, unchanged but for its URL: it fetches tasks and reports them, claims jobs and
// resolves them, has schedules enqueued, and meets every kind of refusal as an error of the client's own.
//
// Takes MILLRACE_URL, a stored API key of the scopes work and tick (SERVICE_API_KEY), and a service-role TOKEN. There must be two emails to
// send and no text message, one job of the type `ocr`, which is the only one, and one schedule that is due once.

import assert from "node:assert/strict";
import { PostgrestClient, PostgrestError } from "@supabase/postgrest-js";
import { createClient } from "@supabase/supabase-js";

const { MILLRACE_URL, SERVICE_API_KEY, TOKEN } = process.env;
const client = new PostgrestClient(MILLRACE_URL, { headers: { "x-api-key": SERVICE_API_KEY } });
const service = client.schema("service_api");
const jobs = client.schema("public");
let calls = 0;

/** What a call answers; an error of it fails the program. */
async function answer(request, status = 200) {
  calls += 1;
  const response = await request;
  assert.deepEqual([response.error, response.status], [null, status]);
  return response.data;
}

/** The error of a call: what the client makes of PostgREST's body, with its status. */
async function refusal(request) {
  calls += 1;
  const { data, error, status } = await request;
  assert.equal(data, null);
  const { code, message, details, hint } = error;
  return { status, code, message, details, hint };
}

// service_api: a task from the queue to its result, and each word about it that is refused.
const worker_id = "postgrest-js:1";
const { job, payload } = await answer(service.rpc("fetch_next_task", { worker_id, lease_seconds: 60, task_type: "email" }));
assert.equal(job.task_type, "email");
assert.equal(payload.to_address, "to@example.com");
const { job_id, lease_id } = job;
const extended = await answer(service.rpc("extend_lease", { worker_id, job_id, lease_id, lease_seconds: 600 }));
assert.ok(new Date(extended.expires_at) - Date.now() > 300_000);
const failed = { status: 400, code: "P0001", message: "Task Result Failed" };
const report = { worker_id, job_id, lease_id, succeeded: true };
assert.deepEqual(await refusal(service.rpc("report_task_result", { ...report, worker_id: "another" })), {
  ...failed, details: "Not Lease Owner", hint: "not_lease_owner",
});
assert.deepEqual(await refusal(service.rpc("report_task_result", { ...report, lease_id: lease_id + 1000 })), {
  ...failed, details: "Invalid Lease", hint: "invalid_lease",
});
assert.equal((await answer(service.rpc("report_task_result", report))).completed, true);
assert.deepEqual(await refusal(service.rpc("report_task_result", report)), {
  ...failed, details: "Already Attempted", hint: "already_attempted",
});
assert.deepEqual(await refusal(service.rpc("fetch_next_task", { worker_id: " " })), {
  status: 400, code: "P0001", message: "Fetch Next Task Failed", details: "Invalid Request", hint: "worker_id_missing",
});
assert.deepEqual(await answer(service.rpc("fetch_next_task", { worker_id, task_type: "sms" })), { job: null });

// A failure that is tried again, by Supabase's whole client with a service-role token.
const supabase = createClient(MILLRACE_URL, TOKEN).schema("service_api");
const second = await answer(supabase.rpc("fetch_next_task", { worker_id }));
const retry = await answer(supabase.rpc("report_task_result", {
  worker_id, job_id: second.job.job_id, lease_id: second.job.lease_id, succeeded: false, error_code: "smtp", error_message: "no", base_delay_seconds: 5,
}));
assert.deepEqual([retry.completed, retry.scheduled_retry, retry.next_job_id], [false, true, second.job.job_id]);

// The runbook: one job, or none; the parameters by either name.
const worker = "00000000-0000-4000-8000-000000000001";
const other = "00000000-0000-4000-8000-000000000002";
const claimed = await answer(jobs.rpc("claim_next_job", { worker_id: worker }).select().maybeSingle());
assert.deepEqual([claimed.job_type, claimed.status, claimed.locked_by, claimed.payload], ["ocr", "processing", worker, { page: 1 }]);
assert.equal(await answer(jobs.rpc("claim_next_job", { p_worker: worker, p_job_type: "ocr" }).maybeSingle()), null);
assert.equal(await answer(jobs.rpc("claim_next_job", { worker_id: worker }).select().maybeSingle()), null);
assert.deepEqual(await answer(jobs.rpc("claim_next_job", { worker_id: worker }).select("*")), []);
assert.deepEqual(await answer(jobs.rpc("claim_next_job", { worker_id: worker })), []);
assert.deepEqual(await refusal(jobs.rpc("claim_next_job", { worker_id: worker }).single()), {
  status: 406, code: "PGRST116", message: "Cannot coerce the result to a single JSON object", details: "The result contains 0 rows", hint: null,
});
const stranger = await refusal(jobs.rpc("resolve_job", { job_id: claimed.id, worker_id: other, success: true }));
assert.deepEqual([stranger.status, stranger.hint], [409, "not_lease_owner"]);
assert.equal(await answer(jobs.rpc("resolve_job", { p_job_id: claimed.id, p_worker: worker, p_success: false, p_error: "unreadable" }), 204), null);
assert.equal((await refusal(jobs.rpc("resolve_job", { job_id: claimed.id, worker_id: worker, success: true }))).status, 409);
assert.equal(await answer(client.rpc("enqueue_cron_tasks")), 1, "the default schema is public");
assert.equal(await answer(client.rpc("enqueue_cron_tasks")), 0);
calls += 1;
const counted = await jobs.rpc("claim_next_job", { worker_id: worker }, { count: "exact" });
assert.deepEqual([counted.error, counted.count, counted.data.length], [null, 1, 1]);

// What is no call.
const unknown = await refusal(service.rpc("fetch_next_tasks", { worker_id }));
assert.deepEqual([unknown.status, unknown.code, unknown.hint], [404, "PGRST202", "Perhaps you meant to call the function service_api.fetch_next_task"]);
const argument = await refusal(service.rpc("fetch_next_task", { worker_id, nonsense: 1 }));
assert.equal(argument.message, "Could not find the function service_api.fetch_next_task(nonsense, worker_id) in the schema cache");
const type = await refusal(jobs.rpc("claim_next_job", { worker_id: "me" }));
assert.deepEqual([type.status, type.code, type.message], [400, "22P02", 'invalid input syntax for type uuid: "me"']);
const schema = await refusal(client.schema("private").rpc("fetch_next_task", { worker_id }));
assert.deepEqual([schema.status, schema.code, schema.message], [406, "PGRST106", "Invalid schema: private"]);
const read = await refusal(service.rpc("fetch_next_task", { worker_id }, { get: true }));
assert.deepEqual([read.status, read.code], [405, "25006"]);
calls += 1;
assert.equal((await service.rpc("fetch_next_task", { worker_id }, { head: true })).status, 405);
assert.equal((await refusal(jobs.rpc("claim_next_job", { worker_id: worker }).select("id"))).code, "PGRST127");
assert.equal((await refusal(jobs.rpc("claim_next_job", { worker_id: worker }).limit(1))).code, "PGRST127");
assert.equal((await refusal(jobs.rpc("claim_next_job", { worker_id: worker }).csv())).code, "PGRST107");
calls += 1;
await assert.rejects(async () => service.rpc("fetch_next_task", { worker_id: "" }).throwOnError(), (error) => {
  return error instanceof PostgrestError && error.code === "P0001" && error.hint === "worker_id_missing";
});

// Who may not.
for (const [headers, hint] of [[{}, "missing_api_key"], [{ "x-api-key": "wrong" }, "invalid_api_key"], [{ apikey: `mr_${"0".repeat(64)}` }, "invalid_api_key"]]) {
  const stranger = new PostgrestClient(MILLRACE_URL, { headers, schema: "service_api" });
  const refused = await refusal(stranger.rpc("fetch_next_task", { worker_id }));
  assert.deepEqual([refused.status, refused.message, refused.hint], [401, "Service API Failed", hint]);
}

console.log(`${calls} calls of rpc`);
