// A subscription with graphql-sse, the protocol's own client: one task from its creation to its end, as somebody who only watches sees it, and
// another whose stream the server ends on the way.
//
// Takes MILLRACE_URL, where stream_seconds should be few, and an API key that may do everything (KEY).

import assert from "node:assert/strict";
import { isDeepStrictEqual } from "node:util";
import { createClient } from "graphql-sse";

const { MILLRACE_URL, KEY } = process.env;
const headers = { "x-api-key": KEY };
let connections = 0;
const client = createClient({
  url: `${MILLRACE_URL}/graphql`,
  headers,
  singleConnection: false,
  // As short as a test wants it; what the client does at the end of a stream is the same.
  retry: () => new Promise((resolve) => setTimeout(resolve, 10)),
  on: { connected: () => (connections += 1) },
});
let answers = 0;
// Whatever waits for a stream that says nothing ends here.
setTimeout(() => assert.fail("nothing came for a minute"), 60_000);

/** The one answer to a query or mutation, which this client takes over SSE too. */
async function answer(query, variables) {
  const results = [];
  for await (const result of client.iterate({ query, variables })) results.push(result);
  assert.equal(results.length, 1);
  return results[0];
}

/** A request of a worker's, over the collab face. */
async function work(route, body) {
  const response = await fetch(`${MILLRACE_URL}/api/collab/${route}`, {
    method: "POST",
    headers: { ...headers, "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  assert.equal(response.status, 200, await response.clone().text());
  return response.json();
}

const create = "mutation ($input: CreateTaskInput!) { createTask(input: $input) { id } }";
const watch = "subscription ($taskId: ID!) { taskChanged(taskId: $taskId) { id status attempts result error } }";

/**
 * Creates a task in the queue and watches it to the end of the subscription. `react` is told each answer, and whether it only repeats the one
 * before: a subscription that begins again begins with the task as it is. Returns the answers that repeat none.
 */
async function watched(queue, react) {
  const { data } = await answer(create, { input: { type: "watched", queue, payload: {}, maxAttempts: 1 } });
  const variables = { taskId: data.createTask.id };
  const seen = [];
  for await (const { data, errors } of client.iterate({ query: watch, variables })) {
    assert.equal(errors, undefined);
    answers += 1;
    const { id, ...task } = data.taskChanged;
    assert.equal(id, variables.taskId);
    const repeats = isDeepStrictEqual(task, seen.at(-1));
    if (!repeats) seen.push(task);
    await react(variables, task.status, repeats);
  }
  return seen;
}

// From its creation to its result.
let job;
const seen = await watched("sse", async (_, status, repeats) => {
  if (status === "PENDING" && !repeats) {
    ({ job } = await work("task.claim", { executorId: "sse", workerId: "watched", leaseSeconds: 60 }));
  } else if (status === "PROCESSING" && !repeats) {
    await work("task.result", { jobId: job.id, type: "watched", ok: true, result: { pages: 3 } });
  }
});
assert.deepEqual(seen, [
  { status: "PENDING", attempts: 0, result: null, error: null },
  { status: "PROCESSING", attempts: 1, result: null, error: null },
  { status: "COMPLETED", attempts: 1, result: { pages: 3 }, error: null },
]);

// The server ends a stream after its stream_seconds: the client subscribes again, and misses nothing.
let again = 0;
const cancelled = await watched("sse-again", async (variables, status, repeats) => {
  if (!repeats) return;
  again += 1;
  await answer("mutation ($taskId: ID!) { cancelTask(taskId: $taskId) }", variables);
});
assert.deepEqual(cancelled.map(({ status }) => status), ["PENDING", "CANCELLED"]);
assert.equal(again, 1);

// A task that is not there is an answer, not a failure of the connection.
const missing = await answer(watch, { taskId: "999999999" });
assert.equal(missing.errors[0].extensions.code, "NOT_FOUND");

client.dispose();
console.log(`${answers} answers over ${connections} connections`);
process.exit();
