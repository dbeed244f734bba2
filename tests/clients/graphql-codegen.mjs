// A client that graphql-codegen makes of the running server's schema and of the operations in graphql/: as the server tells it by introspection,
// which must be what it tells as SDL. Then a program that uses the client, graphql/round_trip.ts, is compiled and run.
//
// Takes MILLRACE_URL and an API key that may do everything (KEY). There must be no schedules.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { codegen } from "@graphql-codegen/core";
import * as typescript from "@graphql-codegen/typescript";
import * as operations from "@graphql-codegen/typescript-operations";
import * as client from "@graphql-codegen/typescript-graphql-request";
import { buildClientSchema, buildSchema, getIntrospectionQuery, lexicographicSortSchema, parse, printSchema } from "graphql";
import { compileAndRun } from "./compiled.mjs";

const { MILLRACE_URL, KEY } = process.env;
const headers = { "x-api-key": KEY };
const file = (name) => readFileSync(new URL(name, import.meta.url), "utf8");

/** The schema, by the query that most tools ask. */
async function introspected() {
  const response = await fetch(`${MILLRACE_URL}/graphql`, {
    method: "POST",
    headers: { ...headers, "content-type": "application/json" },
    body: JSON.stringify({ query: getIntrospectionQuery({ specifiedByUrl: true, inputValueDeprecation: true }) }),
  });
  const { data, errors } = await response.json();
  assert.equal(errors, undefined);
  return buildClientSchema(data);
}

const schema = await introspected();
const published = await fetch(`${MILLRACE_URL}/graphql/schema.graphql`, { headers });
const plain = (one) => printSchema(lexicographicSortSchema(one));
assert.equal(plain(buildSchema(await published.text())), plain(schema));

const generated = await codegen({
  filename: "generated.ts",
  schema: parse(printSchema(schema)),
  documents: [{ location: "operations.graphql", document: parse(file("graphql/operations.graphql")) }],
  config: {
    // No scalar may be left without a type.
    strictScalars: true,
    scalars: { JSON: "unknown", DateTime: "string" },
    documentMode: "documentNode",
    useTypeImports: true,
  },
  plugins: [{ typescript: {} }, { operations: {} }, { client: {} }],
  pluginMap: { typescript, operations, client },
});
compileAndRun({ "generated.ts": generated, "round_trip.ts": file("graphql/round_trip.ts") }, "round_trip.js");
