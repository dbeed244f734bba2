// Asks the server: one answer over HTTP, or those of a subscription as server-sent events (GraphQL over HTTP; GraphQL over SSE, distinct
// connections).

const ENDPOINT = "/graphql";

/** The headers that show `key`, which lives in the page alone: it is neither stored nor ever part of a URL. */
export function credentials(scheme, key) {
  if (key === "") return {};
  return scheme === "authorization" ? { authorization: `Bearer ${key}` } : { "x-api-key": key };
}

/** Sends `body`, the JSON of {query, variables, operationName}, and returns the response. */
function send(body, accept, headers, signal) {
  return fetch(ENDPOINT, {
    method: "POST",
    headers: { ...headers, accept, "content-type": "application/json" },
    body,
    credentials: "omit",
    cache: "no-store",
    signal,
  });
}

/** The one answer to the request `body`: its status and its text. */
export async function ask(body, headers, signal) {
  const response = await send(body, "application/graphql-response+json, application/json;q=0.9", headers, signal);
  return { status: response.status, text: await response.text() };
}

/**
 * Subscribes: `next` is told the text of each answer. Returns `{status, text?}` at the end, with a text if the server refused, and
 * `complete` if it said that nothing will follow; otherwise whoever is still interested subscribes again.
 */
export async function subscribe(body, headers, signal, next) {
  const response = await send(body, "text/event-stream", headers, signal);
  if (!(response.headers.get("content-type") ?? "").startsWith("text/event-stream")) {
    return { status: response.status, text: await response.text() };
  }
  for await (const { event, data } of events(response.body)) {
    if (event === "next") next(data);
    if (event === "complete") return { status: response.status, complete: true };
  }
  return { status: response.status, complete: false };
}

/** The events of a stream (WHATWG HTML section 9.2.6), but for lines that end with a mere CR: this server sends none. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let event = "message";
  let data = [];
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split(/\r?\n/);
    rest = lines.pop();
    for (const line of lines) {
      const [, field, text] = /^([^:]*):? ?(.*)$/s.exec(line);
      if (line === "") {
        if (data.length > 0 || event !== "message") yield { event, data: data.join("\n") };
        event = "message";
        data = [];
      } else if (field === "event") {
        event = text;
      } else if (field === "data") {
        data.push(text);
      }
    }
  }
}
