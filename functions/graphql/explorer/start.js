// The page's controls.

import { EXAMPLES } from "./examples.js";
import { ask, credentials, subscribe } from "./request.js";
import { browse, INTROSPECTION, Schema } from "./schema.js";
import { laidOut, operationAt } from "./text.js";

const [access, scheme, key, examples, query, variables, run, stop, status, answer, schema] = [
  "access", "scheme", "key", "examples", "query", "variables", "run", "stop", "status", "answer", "schema",
].map((id) => document.getElementById(id));

/** What ends the request under way, if there is one, and what ends the last reading of the schema. */
let underWay;
let loading;

/** Puts an operation and its variables into the editors. */
function edit(operation) {
  query.value = operation.query;
  variables.value = operation.variables ? JSON.stringify(operation.variables, null, 2) : "";
  query.setSelectionRange(0, 0);
}

/**
 * The body of a request for what the editors hold, and the kind of its operation; throws what is wrong with the variables. They are sent as
 * they were written, since a number that went through JavaScript may be another one.
 */
function written() {
  const operation = operationAt(query.value, query.selectionStart);
  const given = variables.value.trim() || "{}";
  JSON.parse(given);
  const fixed = JSON.stringify({ query: query.value, operationName: operation?.name });
  return { body: `${fixed.slice(0, -1)},"variables":${given}}`, kind: operation?.kind };
}

/** JSON laid out; anything else as it came. */
function readable(text) {
  try {
    JSON.parse(text);
    return laidOut(text);
  } catch {
    return text;
  }
}

/** Carries out the operation at the cursor; a second one waits for nobody: it ends the first. */
async function carryOut() {
  underWay?.abort();
  const mine = new AbortController();
  underWay = mine;
  stop.disabled = false;
  answer.textContent = "";
  status.textContent = "…";
  const began = performance.now();
  const ended = await send(mine.signal).catch((error) => (mine.signal.aborted ? "stopped" : error.message));
  if (underWay !== mine) return;
  underWay = undefined;
  stop.disabled = true;
  status.textContent = `${ended}, ${Math.round(performance.now() - began)} ms`;
}

/** Sends what is written, shows what comes, and returns how it ended. */
async function send(signal) {
  const { body, kind } = written();
  const headers = credentials(scheme.value, key.value);
  if (kind !== "subscription") {
    const { status: code, text } = await ask(body, headers, signal);
    if (!signal.aborted) answer.textContent = readable(text);
    return `${code}`;
  }
  let count = 0;
  const outcome = await subscribe(body, headers, signal, (text) => {
    count += 1;
    status.textContent = `${count} received`;
    answer.textContent += `${readable(text)}\n\n`;
  });
  if (outcome.text !== undefined) {
    answer.textContent = readable(outcome.text);
    return `${outcome.status}`;
  }
  return `${count} received, ${outcome.complete ? "complete" : "the server ended the stream: run it again to go on"}`;
}

/** Asks for the schema with the key as it is, and shows it, or why it can't be shown; a second one ends the first. */
async function load() {
  loading?.abort();
  const mine = new AbortController();
  loading = mine;
  schema.textContent = "Loading…";
  const given = credentials(scheme.value, key.value);
  try {
    const { status: code, text } = await ask(JSON.stringify({ query: INTROSPECTION }), given, mine.signal);
    const { data, errors } = JSON.parse(text);
    if (data?.__schema) {
      browse(new Schema(data.__schema), schema, edit);
    } else if (code === 401 && key.value === "") {
      schema.textContent = "Give a key above to see the schema.";
    } else {
      schema.textContent = `The schema is not shown: ${errors?.[0]?.message ?? `status ${code}`}`;
    }
  } catch (error) {
    if (!mine.signal.aborted) schema.textContent = `The schema could not be read: ${error.message}`;
  }
}

examples.append(...EXAMPLES.map(({ name }, n) => new Option(name, n)));
examples.addEventListener("change", () => edit(EXAMPLES[examples.value]));
access.addEventListener("submit", (event) => {
  event.preventDefault();
  load();
});
run.addEventListener("click", carryOut);
stop.addEventListener("click", () => underWay?.abort());
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    carryOut();
  }
});
edit(EXAMPLES[0]);
load();
