// Tasks and jobs from their creation to their end, over REST, with a worker on the collab face between, through the client that
// openapi-typescript made: `generated.ts`. What the compiler knows of an answer, or of a refusal, is what the document says.

import assert from "node:assert/strict";
import createClient from "openapi-fetch";
import type { paths } from "./generated.js";

const { MILLRACE_URL, KEY } = process.env;
let calls = 0;
const api = createClient<paths>({ baseUrl: MILLRACE_URL ?? "", headers: { "x-api-key": KEY ?? "" } });
api.use({ onRequest: () => void (calls += 1) });

/** What a call answers with this status; a refusal, or another status, fails the program. */
async function answer<T>(call: Promise<{ data?: T; error?: unknown; response: Response }>, status = 200): Promise<T> {
  const { data, error, response } = await call;
  assert.deepEqual([response.status, error], [status, undefined]);
  assert.ok(data !== undefined);
  return data;
}

/** The two forms of refusals: this face's, and that of the host and of the other faces. */
type Refusal = { statusCode: number; message: string; error: string } | { error: string; code: string };

/** The refusal of a call to this face: its status and that status' name. Its message is held against `message`. */
async function refusal(
  call: Promise<{ error?: Refusal; response: Response }>,
  message: string | RegExp,
): Promise<[number, string]> {
  const { error, response } = await call;
  assert.ok(error !== undefined && "statusCode" in error);
  assert.equal(error.statusCode, response.status);
  if (message instanceof RegExp) assert.match(error.message, message);
  else assert.equal(error.message, message);
  return [error.statusCode, error.error];
}

const of = (id: string) => ({ params: { path: { id } } });

// A task, from its creation to its result.
// One of its own, so that it may run again.
const queue = `generated-${Date.now()}`;
const payload = { to: "ada@example.com", n: [1, null] };
const idempotencyKey = "generated-1";
const body = { type: "email", payload, priority: 10, queue, maxAttempts: 1, idempotencyKey };
const task = await answer(api.POST("/api/tasks", { body }), 201);
assert.deepEqual(
  [task.type, task.status, task.priority, task.payload, task.queue, task.attempts, task.maxAttempts],
  ["email", "pending", 10, payload, queue, 0, 1],
);
assert.ok(!("startedAt" in task) && !("result" in task));
assert.deepEqual(await answer(api.POST("/api/tasks", { body })), task);
assert.deepEqual(await answer(api.GET("/api/tasks/{id}", of(task.id))), task);
const query = { queue, status: "pending", limit: 10 } as const;
const page = await answer(api.GET("/api/tasks", { params: { query } }));
assert.deepEqual(page, { tasks: [task], total: 1, limit: 10, offset: 0 });

const claim = await answer(
  api.POST("/api/collab/task.claim", { body: { executorId: queue, workerId: "generated-client" } }),
);
assert.ok("job" in claim && claim.job);
const claimed = claim.job;
const running = await answer(api.GET("/api/tasks/{id}", of(task.id)));
assert.deepEqual([running.status, running.attempts], ["processing", 1]);
assert.ok(running.startedAt);
const result = { sent: true };
await answer(api.POST("/api/collab/task.result", { body: { jobId: claimed.id, type: "email", ok: true, result } }));
const completed = await answer(api.GET("/api/tasks/{id}", of(task.id)));
assert.deepEqual([completed.status, completed.result], ["completed", result]);
assert.ok(completed.completedAt);

// What cannot be done to it any more, and to what is not there.
const badRequest = [400, "Bad Request"];
const notFound = [404, "Not Found"];
assert.deepEqual(
  await refusal(
    api.POST("/api/tasks/{id}/retry", { ...of(task.id), body: { resetAttempts: false } }),
    "Task with status completed cannot be retried. Only failed or cancelled tasks can be retried.",
  ),
  badRequest,
);
assert.deepEqual(
  await refusal(
    api.POST("/api/tasks/{id}/cancel", of(task.id)),
    "Task with status completed cannot be cancelled. Only pending or processing tasks can be cancelled.",
  ),
  badRequest,
);
assert.deepEqual(await refusal(api.GET("/api/tasks/{id}", of("999999999")), "Task with ID 999999999 not found"), notFound);
assert.deepEqual(await refusal(api.GET("/api/tasks", { params: { query: { limit: 0 } } }), /^limit: /), badRequest);

// A task that is cancelled and queued again; its log, and the figures.
const other = await answer(api.POST("/api/tasks", { body: { type: "sms", queue } }), 201);
assert.equal((await answer(api.POST("/api/tasks/{id}/cancel", of(other.id)), 201)).status, "cancelled");
const retried = await answer(api.POST("/api/tasks/{id}/retry", { ...of(other.id), body: { resetAttempts: true } }), 201);
assert.ok(retried.status === "pending" || retried.status === "retrying");
const log = await answer(api.GET("/api/tasks/{id}/logs", { params: { path: { id: task.id }, query: { limit: 100 } } }));
assert.equal(log.taskId, task.id);
assert.equal(log.total, log.logs.length);
assert.ok(log.logs.length >= 3 && log.logs.every(({ level, message }) => level === "info" && message !== ""));
const stats = await answer(api.GET("/api/tasks/stats/summary"));
assert.ok(stats.total >= 2 && stats.byStatus.completed >= 1);
assert.equal(Object.values(stats.byStatus).reduce((sum, n) => sum + n, 0), stats.total);

// A job.
const job = await answer(
  api.POST("/api/jobs", { body: { name: "Daily Backup", type: "backup", schedule: "0 0 * * *", payload: { full: true } } }),
  201,
);
assert.deepEqual([job.name, job.type, job.schedule, job.payload, job.status], [
  "Daily Backup", "backup", "0 0 * * *", { full: true }, "active",
]);
assert.match(job.nextRun ?? "", /T00:00:00/);
assert.deepEqual(await answer(api.GET("/api/jobs")), [job]);
assert.deepEqual(await answer(api.GET("/api/jobs/{id}", of(job.id))), job);
assert.deepEqual(
  await refusal(
    api.POST("/api/jobs", { body: { name: "Daily Backup", type: "backup", schedule: "0 0 * * *" } }),
    "Job with name Daily Backup already exists",
  ),
  [409, "Conflict"],
);
const paused = await answer(api.POST("/api/jobs/{id}/pause", of(job.id)), 201);
assert.deepEqual([paused.status, paused.nextRun], ["paused", null]);
assert.deepEqual(await refusal(api.POST("/api/jobs/{id}/pause", of(job.id)), "Job is already paused"), badRequest);
assert.equal((await answer(api.POST("/api/jobs/{id}/resume", of(job.id)), 201)).status, "active");
assert.deepEqual(await refusal(api.POST("/api/jobs/{id}/resume", of(job.id)), "Job is not paused"), badRequest);
assert.deepEqual(await answer(api.DELETE("/api/jobs/{id}", of(job.id))), {
  message: `Job ${job.id} deleted successfully`,
});
assert.deepEqual(await refusal(api.GET("/api/jobs/{id}", of(job.id)), `Job with ID ${job.id} not found`), notFound);

console.log(`${calls} calls`);
