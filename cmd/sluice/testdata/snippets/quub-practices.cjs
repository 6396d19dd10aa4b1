// Takes webhooks with the functions that the guide prints as good practice, whose files
// are named on the command line. Stands in for what they take for granted: an Express
// application that listens, and those who handle what they hand on. Prints the port,
// then a JSON line for each order filled.
const http = require("node:http");
const vm = require("node:vm");
const fs = require("node:fs");

globalThis.app = {
  post(path, handler) {
    http.createServer((req, res) => {
      const chunks = [];
      req.on("data", (chunk) => chunks.push(chunk));
      req.on("end", () => {
        req.body = JSON.parse(Buffer.concat(chunks).toString());
        res.status = (code) => { res.statusCode = code; return res; };
        res.json = (value) => res.end(JSON.stringify(value));
        req.url === path ? handler(req, res) : res.writeHead(404).end();
      });
    }).listen(0, "127.0.0.1", function () {
      console.log(JSON.stringify({ port: this.address().port }));
    });
  },
};
globalThis.processWebhookAsync = (event) => processWebhook(event);
globalThis.handleEvent = (event) => handleWebhookEvent(event.eventType, event.data);
globalThis.handleOrderFilled = (data) => console.log(JSON.stringify({ handled: data }));
for (const file of process.argv.slice(2)) vm.runInThisContext(fs.readFileSync(file, "utf8"));
