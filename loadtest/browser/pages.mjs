// Runs sluice and a browser, as run says; the arguments are the binary, a directory for
// its data, and the line that the guide prints. A page can't give its EventSource a key:
// the browser adds it to every request, as a proxy in front would; or somebody logs in.
import chromium from "@sparticuz/chromium";
import puppeteer from "puppeteer-core";
import { spawn, execFileSync } from "node:child_process";
import { createServer } from "node:http";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import assert from "node:assert/strict";

const [binary, data, snippet] = process.argv.slice(2);
const key = execFileSync(binary, ["key", "new"], { encoding: "utf8" }).match(/sk_test_\w+/)[0];

// A page of another origin, which the operator names, and one that he doesn't.
const pages = createServer((_, response) => response.writeHead(200, { "Content-Type": "text/html" }).end("<title>a page</title>"));
await once(pages.listen(0, "127.0.0.1"), "listening");
const named = `http://localhost:${pages.address().port}`;
const unnamed = `http://127.0.0.1:${pages.address().port}`;

let address = "127.0.0.1:0";
let sluice;
async function serve() {
  sluice = spawn(binary, ["serve", "--listen", address, "--ops", "127.0.0.1:0", "--data", data, "--cors-origins", named], {
    env: { ...process.env, SLUICE_BOOTSTRAP_KEY: key },
    stdio: ["ignore", "ignore", "pipe"],
  });
  let said = "";
  await new Promise((ready, failed) => {
    sluice.once("exit", () => failed(new Error(`sluice didn't start: ${said}`)));
    sluice.stderr.on("data", (text) => { // read to the end: a log that is full of what nobody reads stands still
      said += text;
      const at = said.match(/"msg":"ready".*?"listen":"http:\/\/([^"]+)"/);
      if (at) ready((address = at[1]));
    });
  });
}
async function kill() {
  sluice.kill("SIGKILL");
  await once(sluice, "exit");
}
async function publish(type, data, as = key) {
  const response = await fetch(`http://${address}/v1/events`, {
    method: "POST",
    headers: { Authorization: `Bearer ${as}`, "Content-Type": "application/json" },
    body: JSON.stringify({ type, data }),
  });
  assert.equal(response.status, 202, await response.text());
}
async function until(what, seen) {
  for (const end = Date.now() + 60_000; Date.now() < end; await new Promise((then) => setTimeout(then, 50))) {
    if (await seen()) return;
  }
  throw new Error(`never: ${what}`);
}

await serve();
// The package's own arguments switch off what keeps origins apart.
const args = [...chromium.args.filter((arg) => arg !== "--disable-web-security"), "--no-sandbox"];
const browser = await puppeteer.launch({ args, executablePath: await chromium.executablePath(), headless: "shell" });
try {
  console.log(await browser.version());

  // open has a page listen as the guide shows, and keep what it is given.
  async function open(at, url) {
    const page = await browser.newPage();
    await page.goto(at);
    await page.setExtraHTTPHeaders({ Authorization: `Bearer ${key}` });
    await page.evaluate((url) => {
      window.got = [];
      window.opened = window.failed = 0;
      const es = (window.es = new EventSource(url, { withCredentials: true }));
      es.onopen = () => window.opened++;
      es.onerror = () => window.failed++;
      ["order.status.changed", "payment.succeeded", "contract.message", "dispute.opened"].forEach((name) => {
        es.addEventListener(name, (e) => window.got.push([name, JSON.parse(e.data), e.lastEventId]));
      });
    }, url);
    return page;
  }
  const got = (page) => page.evaluate(() => window.got);
  const opened = (page, times) => until(`opened ${times} times`, () => page.evaluate((times) => window.opened >= times, times));

  const own = await open(`http://${address}/nothing`, "/api/events/stream");
  await opened(own, 1);
  const other = await open(named, `http://${address}/api/events/stream?types=dispute.*`);
  await opened(other, 1);

  await publish("order.status.changed", { order: { id: "o_1", note: "naïve \u2028 \n" } });
  await publish("order.created", { nobody: "listens to this" });
  await until("the first event", async () => (await got(own)).length === 1);

  // Nothing is missed over a kill, of what is published before the page is back.
  await kill();
  await serve();
  for (let n = 0; n < 300; n++) await publish("dispute.opened", { n });
  for (const [page, before] of [[own, 1], [other, 0]]) {
    await until("300 events after a kill", async () => (await got(page)).length >= before + 300);
    const all = (await got(page)).slice(before);
    assert.deepEqual(all.map(([name, data]) => [name, data.n]), Array.from({ length: 300 }, (_, n) => ["dispute.opened", n]));
    assert.equal(new Set(all.map(([, , id]) => id)).size, 300);
    await opened(page, 2);
  }
  assert.deepEqual((await got(own))[0].slice(0, 2), ["order.status.changed", { order: { id: "o_1", note: "naïve \u2028 \n" } }]);
  console.log("a page of its own origin, and one of an origin that is named: 300 events after a kill, each once and in order");

  // A page that got no event resumes from where it was all the same: its second
  // stream begins where the first stood, by the id that came alone.
  const quiet = await open(`http://${address}/nothing`, "/api/events/stream?types=contract.*");
  await opened(quiet, 1);
  await kill();
  await serve();
  await publish("contract.message", { n: 1 });
  await until("an event that was logged while nobody listened", async () => (await got(quiet)).length === 1);
  console.log("a page that had got no event missed none");

  const stranger = await open(unnamed, `http://${address}/api/events/stream`);
  await until("refused", () => stranger.evaluate(() => window.failed > 0));
  assert.equal(await stranger.evaluate(() => window.opened), 0);
  console.log("a page of an origin that isn't named: refused by the browser");

  // Somebody logs in on a page of the server's: the browser keeps the session, and the
  // guide's line needs nothing else, until they log out.
  const member = await browser.newPage();
  const printed = [];
  member.on("console", async (message) => printed.push(await Promise.all(message.args().map((arg) => arg.jsonValue()))));
  await member.goto(`http://${address}/nothing`);
  const call = (path, body) => member.evaluate(async (path, body) => {
    const response = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: body && JSON.stringify(body) });
    return { status: response.status, ...(await response.json().catch(() => ({}))) };
  }, path, body);
  const account = { email: "user@example.com", password: "securepass123" };
  const made = await call("/auth/register", { ...account, full_name: "John Doe", organization_name: "My Company" });
  assert.equal(made.status, 201);
  assert.equal((await call("/auth/login", account)).status, 200);
  assert.equal(await member.evaluate(() => document.cookie), ""); // no script gets to see it
  await member.evaluate(() => {
    const Source = window.EventSource;
    window.EventSource = class extends Source {
      constructor(...given) {
        super(...given);
        window.es = this;
      }
    };
  });
  await member.addScriptTag({ content: readFileSync(snippet, "utf8") });
  await until("a stream with a session", () => member.evaluate(() => window.es.readyState === 1));
  await publish("order.created", { nobody: "listens to this" }, made.api_key.key);
  await publish("payment.succeeded", { amount: 10.5 }, made.api_key.key);
  await until("what the guide's line prints", () => printed.some(([name]) => name === "payment.succeeded"));
  assert.deepEqual(printed.filter(([name]) => name !== undefined), [["payment.succeeded", { amount: 10.5 }]]);
  assert.equal((await call("/auth/logout")).status, 204);
  await until("the stream's end behind a logout", () => member.evaluate(() => window.es.readyState === 2));
  console.log("a page whose user has logged in: the guide's line as it is printed, until they log out");
} finally {
  await browser.close();
  sluice.kill("SIGKILL");
  pages.close();
}
