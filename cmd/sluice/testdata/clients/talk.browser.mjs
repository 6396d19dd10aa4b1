// Has a headless browser say what it is given, and prints what it hears, a message
// a line, then how it was closed; and first what was agreed on. The browser gets a
// page from here, and brings each line back.
//
//   node talk.browser.mjs BROWSER ws://host/v1/ws MESSAGE…
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";

const [browser, url, ...say] = process.argv.slice(2);

const page = `<!doctype html><script>
  let before = Promise.resolve(); // lines come back one behind the other
  const print = (...words) => {
    before = before.then(() => fetch("/line", { method: "POST", body: words.join(" ") }));
  };
  const ws = new WebSocket(${JSON.stringify(url)});
  ws.onopen = () => {
    print("extensions", ws.extensions);
    for (const message of ${JSON.stringify(say).replaceAll("<", "\\u003c")}) ws.send(message);
  };
  ws.onmessage = (message) => print(message.data);
  ws.onclose = (closed) => print("closed", closed.code, closed.reason);
</script>`;

const profile = mkdtempSync(join(tmpdir(), "sluice-browser-"));
const server = createServer(async (request, response) => {
  if (request.url === "/") {
    response.setHeader("Content-Type", "text/html; charset=utf-8").end(page);
  } else {
    let text = "";
    for await (const part of request.setEncoding("utf8")) text += part;
    if (request.url === "/line") console.log(text);
    response.end();
  }
});
server.listen(0, "127.0.0.1", () => {
  const child = spawn(browser, [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", `--user-data-dir=${profile}`,
    `http://127.0.0.1:${server.address().port}/`,
  ], { stdio: ["ignore", "ignore", process.env.DEBUG ? "inherit" : "ignore"] });
  child.on("exit", () => process.exit());
  process.on("exit", () => {
    child.kill("SIGKILL");
    rmSync(profile, { recursive: true, force: true });
  });
});
