// A client of openapi-typescript and openapi-fetch, made of the OpenAPI document that the running server serves. Then a program that uses it,
// rest/round_trip.ts, is compiled and run.
//
// Takes MILLRACE_URL and an API key that may do everything (KEY). There must be no schedules.

import { readFileSync } from "node:fs";
import openapiTS, { astToString } from "openapi-typescript";
import { compileAndRun } from "./compiled.mjs";

const document = await (await fetch(`${process.env.MILLRACE_URL}/docs.json`)).json();
const generated = astToString(await openapiTS(document));
const program = readFileSync(new URL("rest/round_trip.ts", import.meta.url), "utf8");
compileAndRun({ "generated.ts": generated, "round_trip.ts": program }, "round_trip.js");
