// Takes webhooks with the function that the guide prints, which is named on the
// command line. Prints the port it listens on, then a JSON line for each request.
const http = require("node:http");

globalThis.require = require;
require("node:vm").runInThisContext(require("node:fs").readFileSync(process.argv[2], "utf8"));

http.createServer((req, res) => {
  const chunks = [];
  req.on("data", (chunk) => chunks.push(chunk));
  req.on("end", () => {
    const body = Buffer.concat(chunks).toString();
    const genuine = verifyWebhook(body, req.headers["x-tenzro-signature"], process.env.WEBHOOK_SECRET);
    console.log(JSON.stringify({ genuine, event: JSON.parse(body) }));
    res.writeHead(genuine ? 200 : 401).end();
  });
}).listen(0, "127.0.0.1", function () {
  console.log(JSON.stringify({ port: this.address().port }));
});
