// The audits of graphql-http, the GraphQL-over-HTTP working group's suite, against a running server. Prints how many of each requirement level
// passed and every one that failed; ends with 1 if one of a MUST or a SHOULD did.
//
// Takes MILLRACE_URL and an API key that may read (KEY).

import { auditServer } from "graphql-http";

const { MILLRACE_URL, KEY } = process.env;

/** The audits know no keys: each of their requests gets one. */
const fetchFn = (url, init = {}) => {
  const headers = new Headers(init.headers);
  headers.set("x-api-key", KEY);
  return fetch(url, { ...init, headers });
};

const results = await auditServer({ url: `${MILLRACE_URL}/graphql`, fetchFn });
const failed = results.filter(({ status }) => status !== "ok");
for (const { id, name, reason, response } of failed) {
  console.log(`FAILED ${id} ${name}: ${reason} (${response.status} ${response.headers.get("content-type")})`);
}
const level = ({ name }) => name.split(" ")[0];
const counts = ["MUST", "SHOULD", "MAY"].map((wanted) => {
  const all = results.filter((result) => level(result) === wanted);
  return `${wanted} ${all.filter(({ status }) => status === "ok").length} of ${all.length}`;
});
console.log(`audits passed: ${counts.join(", ")}`);
process.exitCode = failed.some((result) => level(result) !== "MAY") || results.length === 0 ? 1 : 0;
