// The explorer in a real browser: it loads without asking anybody else, shows the schema once it has a key, sends a draft of its own making, and
// follows a subscription.
//
// Takes MILLRACE_URL, an API key and a token that may do everything (KEY, TOKEN), and the browser's program (CHROMIUM).

import assert from "node:assert/strict";
import { chromium } from "playwright-core";

const { MILLRACE_URL, KEY, TOKEN, CHROMIUM } = process.env;
const address = `${MILLRACE_URL}/graphql`;
const browser = await chromium.launch({
  executablePath: CHROMIUM,
  timeout: 120_000,
  // Chromium does not start as root with its sandbox. The others keep it from asking for anything by itself.
  args: ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"],
});
const page = await browser.newPage({ viewport: { width: 1500, height: 900 } });
page.setDefaultTimeout(60_000);
const requests = [];
const complaints = [];
page.on("request", (request) => requests.push(request.url()));
page.on("pageerror", (error) => complaints.push(error.message));
// A browser says of every status from 400 on that it came. Whatever else it says here (of the policy, for one) is a fault.
const OF_A_STATUS = "Failed to load resource: the server responded with a status of 40";
page.on("console", (message) => {
  if (message.type() === "error" && !message.text().startsWith(OF_A_STATUS)) complaints.push(message.text());
});

/** Waits until `selector`'s text contains `text`. */
const shows = (selector, text) => page.locator(selector).filter({ hasText: text }).waitFor();

await page.goto(address);
await shows("#schema", "Give a key above");

/** Types in a key, and waits for what becomes of the schema. */
async function use(scheme, key, text) {
  await page.selectOption("#scheme", scheme);
  await page.fill("#key", key);
  await page.click("#access button");
  await shows("#schema", text);
}
await use("x-api-key", "wrong", "The schema is not shown");
await use("x-api-key", KEY, "createTask");

// A draft from the schema, with a number that JavaScript could not keep.
await page.locator("#schema").getByRole("button", { name: "createTask", exact: true }).click();
assert.match(await page.inputValue("#query"), /^mutation CreateTask\(\$input: CreateTaskInput!\) \{\n {2}createTask\(input: \$input\) \{/);
assert.deepEqual(Object.keys(JSON.parse(await page.inputValue("#variables"))), ["input"]);
await page.fill("#variables", '{ "input": { "type": "browser", "queue": "explorer", "payload": { "n": [9007199254740993, {}] } } }');
await page.click("#run");
await shows("#status", "200");
const answer = await page.textContent("#answer");
assert.match(answer, /"n": \[\n\s+9007199254740993,\n\s+\{\}\n\s+\]/);
const { id } = JSON.parse(answer).data.createTask;

// A type of the schema, and back.
await page.locator("#schema").getByRole("button", { name: "CreateTaskInput!", exact: true }).first().click();
await shows("#schema", "maxAttempts");
await page.getByRole("button", { name: "All operations" }).click();
await shows("#schema", "deleteJob");

// A subscription, with a token, by the keyboard; somebody else cancels the task.
await use("authorization", TOKEN, "createTask");
await page.selectOption("#examples", { label: "Watch a task" });
await page.fill("#variables", JSON.stringify({ taskId: id }));
await page.focus("#query");
await page.keyboard.press("Control+Enter");
await shows("#answer", "PENDING");
const cancelled = await fetch(address, {
  method: "POST",
  headers: { "x-api-key": KEY, "content-type": "application/json" },
  body: JSON.stringify({ query: `mutation { cancelTask(taskId: "${id}") }` }),
});
assert.deepEqual(await cancelled.json(), { data: { cancelTask: true } });
await shows("#answer", "CANCELLED");
await shows("#status", "complete");

// What is refused is shown as it came: the server's words for a mistake, and the page's for variables that are no JSON.
await page.fill("#query", "{ nothing }");
await page.fill("#variables", "");
await page.click("#run");
await shows("#answer", "nothing");
await page.fill("#variables", "{");
await page.click("#run");
await shows("#status", "JSON");

const kept = await page.evaluate(() => [localStorage.length, sessionStorage.length, document.cookie, location.href]);
assert.deepEqual(kept, [0, 0, "", address]);
assert.deepEqual(complaints, []);
assert.deepEqual(requests.filter((url) => !url.startsWith(`${address}`) && url !== "data:,"), []);
await browser.close();
console.log(`${requests.length} requests, all of them to the server itself`);
