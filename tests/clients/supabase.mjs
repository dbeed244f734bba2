// A program of a user of Supabase's client, unchanged but for its URL: dead letters are listed and retried, links are made.
//
// Takes MILLRACE_URL, a service-role TOKEN, an ANON_TOKEN, a stored API key that may only read (READING_KEY), and a file of the
// artifact store (ARTIFACT). There must be exactly two dead letters, neither retried.

import assert from "node:assert/strict";
import { createClient, FunctionsHttpError } from "@supabase/supabase-js";

const { MILLRACE_URL, TOKEN, ANON_TOKEN, READING_KEY, ARTIFACT } = process.env;
const service = createClient(MILLRACE_URL, TOKEN);
const reading = createClient(MILLRACE_URL, READING_KEY);
const anonymous = createClient(MILLRACE_URL, ANON_TOKEN);
let calls = 0;

/** What a function answers; an error of it fails the program. */
async function answer(client, name, options) {
  calls += 1;
  const { data, error } = await client.functions.invoke(name, options);
  assert.equal(error, null);
  return data;
}

/** The status and the body with which a function refuses. */
async function refusal(client, name, options) {
  calls += 1;
  const { data, error } = await client.functions.invoke(name, options);
  assert.equal(data, null);
  assert.ok(error instanceof FunctionsHttpError, `${error}`);
  return { status: error.context.status, ...(await error.context.json()) };
}

// Listing: with a token, and with a stored key in its place.
const list = await answer(service, "dlq-list", { method: "GET" });
assert.equal(list.count, 2);
assert.equal(list.items[0].payload.fruit, "äpple");
assert.deepEqual((await answer(reading, "dlq-list?limit=1", { method: "GET" })).items, list.items.slice(0, 1));

// Retrying: the second time is a conflict that names the first job, and what is not well formed is named too.
const [{ id: dlqId }] = list.items;
const { jobId } = await answer(service, "dlq-retry", { body: { dlqId } });
assert.match(jobId, /^[0-9a-f-]{36}$/);
const again = await refusal(service, "dlq-retry", { body: { dlqId } });
assert.deepEqual([again.status, again.code, again.details], [409, "already_replayed", jobId]);
const nothing = await refusal(service, "dlq-retry", { body: {} });
assert.deepEqual([nothing.status, nothing.code, nothing.details], [400, "invalid_request", "all"]);
const many = await answer(service, "dlq-retry", { body: { all: true } });
assert.equal(many.retried, 1);

// Links: one that the file can be read with.
const signed = await answer(reading, `sign-artifact?path=${encodeURIComponent(ARTIFACT)}`, { method: "GET" });
assert.equal(await (await fetch(signed.url)).text(), "a picture");
const missing = await refusal(reading, "sign-artifact?path=missing", { method: "GET" });
assert.deepEqual([missing.status, missing.error], [404, "StorageApiError: Object not found"]);

// Who may not.
const key = await refusal(reading, "dlq-retry", { body: { all: true } });
assert.deepEqual([key.status, key.code], [403, "forbidden"]);
const anon = await refusal(anonymous, "dlq-list", { method: "GET" });
assert.deepEqual([anon.status, anon.code], [403, "forbidden"]);

console.log(`${calls} calls of functions.invoke`);
