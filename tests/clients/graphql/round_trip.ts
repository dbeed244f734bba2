// Tasks and jobs from their creation to their end, through the client that graphql-codegen made: `generated.ts`.

import assert from "node:assert/strict";
import { ClientError, GraphQLClient } from "graphql-request";
import { getSdk, JobStatus, TaskPriority, TaskStatus } from "./generated.js";

const { MILLRACE_URL, KEY } = process.env;
let calls = 0;
const sdk = getSdk(
  new GraphQLClient(`${MILLRACE_URL}/graphql`, { headers: { "x-api-key": KEY ?? "" } }),
  (call) => {
    calls += 1;
    return call();
  },
);

/** The code of the one error with which a call must end. */
async function code(call: Promise<unknown>): Promise<unknown> {
  const error = await call.then(() => assert.fail("it succeeded"), (error: unknown) => error);
  assert.ok(error instanceof ClientError, String(error));
  assert.equal(error.response.errors?.length, 1);
  return error.response.errors?.[0]?.extensions["code"];
}

// Tasks.
// One of its own, so that it may run again.
const queue = `codegen-${Date.now()}`;
const payload = { to: ["äpfel@example.com", null, 1.5], nested: { deep: true } };
const { createTask: task } = await sdk.CreateTask({
  input: { type: "email", queue, payload, priority: TaskPriority.High, maxAttempts: 2 },
});
assert.deepEqual(
  [task.type, task.queue, task.status, task.priority, task.payload, task.attempts, task.maxAttempts],
  ["email", queue, TaskStatus.Pending, 10, payload, 0, 2],
);
assert.match(task.id, /^[1-9][0-9]*$/);
assert.ok(!Number.isNaN(Date.parse(task.createdAt)));
const { createTask: second } = await sdk.CreateTask({ input: { type: "sms", queue, payload: {} } });
assert.equal(second.priority, 5);

const { tasks: all } = await sdk.Tasks({ filters: { queue } });
assert.deepEqual([all.total, all.limit, all.offset], [2, 50, 0]);
assert.deepEqual(all.tasks, [second, task]);
const { tasks: emails } = await sdk.Tasks({
  filters: { queue, type: "email", status: TaskStatus.Pending, limit: 1, offset: 0 },
});
assert.deepEqual([emails.total, emails.limit, emails.tasks[0]?.id], [1, 1, task.id]);
assert.ok((await sdk.Tasks()).tasks.total >= 2);
assert.deepEqual((await sdk.Task({ taskId: task.id })).task, task);

assert.equal((await sdk.CancelTask({ taskId: task.id })).cancelTask, true);
assert.equal((await sdk.Task({ taskId: task.id })).task?.status, TaskStatus.Cancelled);
assert.equal(await code(sdk.CancelTask({ taskId: task.id })), "CONFLICT");
const { retryTask: retried } = await sdk.RetryTask({ taskId: task.id, resetAttempts: true });
assert.deepEqual([retried.type, retried.payload], [task.type, payload]);
assert.ok([TaskStatus.Pending, TaskStatus.Retrying].includes(retried.status));
assert.equal(await code(sdk.Task({ taskId: "999999999" })), "NOT_FOUND");
assert.equal(await code(sdk.RetryTask({ taskId: second.id })), "CONFLICT");

// Jobs.
const input = { name: "Daily Backup", type: "backup", schedule: "0 0 * * *", payload: { full: true } };
const { createJob: job } = await sdk.CreateJob({ input });
assert.deepEqual(
  [job.name, job.type, job.schedule, job.payload, job.status],
  [input.name, input.type, input.schedule, input.payload, JobStatus.Active],
);
assert.equal(await code(sdk.CreateJob({ input })), "CONFLICT");
assert.deepEqual((await sdk.Jobs()).jobs, [job]);
assert.equal((await sdk.PauseJob({ jobId: job.id })).pauseJob, true);
const { job: paused } = await sdk.Job({ jobId: job.id });
assert.deepEqual([paused?.status, paused?.nextRun], [JobStatus.Paused, null]);
assert.equal((await sdk.ResumeJob({ jobId: job.id })).resumeJob, true);
assert.equal((await sdk.Job({ jobId: job.id })).job?.status, JobStatus.Active);
assert.equal((await sdk.DeleteJob({ jobId: job.id })).deleteJob, true);
assert.equal(await code(sdk.Job({ jobId: job.id })), "NOT_FOUND");
assert.deepEqual((await sdk.Jobs()).jobs, []);

console.log(`${calls} calls`);
