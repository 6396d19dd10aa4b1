// Takes webhooks with the functions that the guide prints, whose files are named on
// the command line: one that verifies, and a handler for an Express application. What
// the handler does with a webhook it leaves to its reader: this answers it. The secret
// is in a file, the third, once there is one. Prints the port it listens on, then a
// JSON line for each request.
const http = require("node:http");
const vm = require("node:vm");
const fs = require("node:fs");

globalThis.require = require;
globalThis.app = {
  post(path, handler) {
    http.createServer((req, res) => {
      const chunks = [];
      req.on("data", (chunk) => chunks.push(chunk));
      req.on("end", () => {
        req.body = JSON.parse(Buffer.concat(chunks).toString());
        res.status = (code) => { res.statusCode = code; return res; };
        res.send = (text) => res.end(text);
        const genuine = req.url === path && verifyWebhook(req.body, req.headers["x-tempo-signature"], fs.readFileSync(process.argv[4], "utf8"));
        if (genuine) handler(req, res);
        console.log(JSON.stringify({ genuine, again: res.writableEnded, event: req.body }));
        if (!res.writableEnded) res.writeHead(genuine ? 200 : 401).end();
      });
    }).listen(0, "127.0.0.1", function () {
      console.log(JSON.stringify({ port: this.address().port }));
    });
  },
};
for (const file of process.argv.slice(2, 4)) vm.runInThisContext(fs.readFileSync(file, "utf8"));
