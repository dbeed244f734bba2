// The explorer's scripts as the server serves them, without a browser: what the page offers fits the schema, it finds the operation at the cursor as
// graphql-js does, lays JSON out without changing a digit, and follows a subscription however its bytes arrive.
//
// Takes MILLRACE_URL and an API key that may do everything (KEY).

import assert from "node:assert/strict";
import { buildClientSchema, getIntrospectionQuery, parse, validate } from "graphql";

const { MILLRACE_URL, KEY } = process.env;
const headers = { "x-api-key": KEY };
let checks = 0;

/** A script of the page's that imports nothing. */
async function script(name) {
  const response = await fetch(`${MILLRACE_URL}/graphql/${name}`);
  assert.equal(response.status, 200);
  return import(`data:text/javascript,${encodeURIComponent(await response.text())}`);
}

async function ask(query, variables) {
  const response = await fetch(`${MILLRACE_URL}/graphql`, {
    method: "POST",
    headers: { ...headers, "content-type": "application/json" },
    body: JSON.stringify({ query, variables }),
  });
  const { data, errors } = await response.json();
  assert.equal(errors, undefined);
  return data;
}

const { EXAMPLES } = await script("examples.js");
const { INTROSPECTION, Schema } = await script("schema.js");
const { laidOut, operationAt, operations } = await script("text.js");

/** The whole schema, by the query of graphql-js, and as the page asks for it. */
const whole = buildClientSchema(await ask(getIntrospectionQuery()));
const told = new Schema((await ask(INTROSPECTION)).__schema);
const fits = (text) => {
  assert.deepEqual(validate(whole, parse(text)), [], text);
  checks += 1;
};

// What it offers.
for (const { query } of EXAMPLES) fits(query);
let drafts = 0;
for (const [kind, { name }] of told.roots) {
  for (const field of told.types.get(name).fields) {
    const { query, variables } = told.draft(kind, field);
    fits(query);
    assert.deepEqual(Object.keys(variables), field.args.filter((one) => one.type.kind === "NON_NULL").map((one) => one.name));
    drafts += 1;
  }
}
assert.ok(drafts >= 12);

// Operations, as graphql-js finds them.
const DOCUMENTS = [
  ...EXAMPLES.map(({ query }) => query),
  "{ jobs { id } }",
  "# query A { } \n query B($a: Int = 1, $b: [T!]! = [{ c: \"}\" }]) @live(on: {a: 1}) { task(taskId: \"{\\\"\") { id } } fragment F on Task { id } mutation C { a }",
  'query A { a(b: """ } \\""" { """) } subscription @x { b } query query { c }',
];
for (const text of DOCUMENTS) {
  const expected = parse(text, { allowLegacyFragmentVariables: false })
    .definitions.filter(({ kind }) => kind === "OperationDefinition")
    .map(({ operation, name, loc }) => [operation, name?.value, loc.start, loc.end]);
  assert.deepEqual(operations(text).map(({ kind, name, from, to }) => [kind, name, from, to]), expected, text);
  for (const [, name, start, end] of expected) {
    assert.deepEqual([start, end].map((place) => operationAt(text, place).name), [name, name]);
  }
  checks += 1;
}
// Half of a document is no fault of the page's.
for (const text of ["", "}", "query A {", 'query "', "query A { a } {", "mutation"]) operations(text);

// JSON.
for (const value of [null, true, -1.5e-7, "a\"b\\{}[],: \u2028", [], {}, [[]], { a: [1, { b: {} }, []], "": { c: "," } }]) {
  for (const text of [JSON.stringify(value), JSON.stringify(value, null, 3)]) {
    assert.equal(laidOut(text), JSON.stringify(value, null, 2));
    checks += 1;
  }
}
assert.equal(laidOut('{"n":[12345678901234567890,1.10,1E400]}'), '{\n  "n": [\n    12345678901234567890,\n    1.10,\n    1E400\n  ]\n}');

// A stream, whole and byte by byte, with either line end.
const real = globalThis.fetch;
const { subscribe } = await script("request.js");
const frames = [':', '', 'event: next', 'data: {"a":"ä: \u2028"}', '', ': ping', '', 'event:next', 'data:1', 'data: 2', '', 'event: complete', 'data:', '', ''];
for (const end of ["\n", "\r\n"]) {
  const bytes = new TextEncoder().encode(frames.join(end));
  for (const size of [1, 7, bytes.length]) {
    const body = new ReadableStream({
      start(stream) {
        for (let at = 0; at < bytes.length; at += size) stream.enqueue(bytes.slice(at, at + size));
        stream.close();
      },
    });
    globalThis.fetch = async () => new Response(body, { headers: { "content-type": "text/event-stream" } });
    const seen = [];
    const { complete } = await subscribe("{}", {}, undefined, (text) => seen.push(text));
    assert.deepEqual([complete, seen], [true, ['{"a":"ä: \u2028"}', "1\n2"]]);
    checks += 1;
  }
}
globalThis.fetch = (path, init) => real(new URL(path, MILLRACE_URL), init);
const { createTask } = await ask("mutation ($input: CreateTaskInput!) { createTask(input: $input) { id } }", {
  input: { type: "explored", queue: "explorer-parts", payload: {} },
});
const body = JSON.stringify({ query: "subscription ($taskId: ID!) { taskChanged(taskId: $taskId) { status } }", variables: { taskId: createTask.id } });
const statuses = [];
const { status, complete } = await subscribe(body, headers, undefined, (text) => {
  statuses.push(JSON.parse(text).data.taskChanged.status);
  if (statuses.length === 1) ask(`mutation { cancelTask(taskId: "${createTask.id}") }`).catch((error) => assert.fail(error));
});
assert.deepEqual([status, complete, statuses], [200, true, ["PENDING", "CANCELLED"]]);

console.log(`${checks} checks, ${drafts} drafts`);
