// Stands in for what the guide's handler takes for granted: an Express application
// that listens, its reader of JSON, and somebody who handles events. Prints the
// port, then a JSON line for each event.
const http = require("node:http");

globalThis.express = { json: () => (req, text) => { req.body = JSON.parse(text); } };
globalThis.handleWebhookEvent = (eventType, data) => console.log(JSON.stringify({ eventType, data }));
globalThis.app = {
  post(path, reader, handler) {
    http.createServer((req, res) => {
      const chunks = [];
      req.on("data", (chunk) => chunks.push(chunk));
      req.on("end", () => {
        res.status = (code) => { res.statusCode = code; return res; };
        res.json = (value) => res.end(JSON.stringify(value));
        reader(req, Buffer.concat(chunks).toString());
        req.url === path ? handler(req, res) : res.writeHead(404).end();
      });
    }).listen(0, "127.0.0.1", function () {
      console.log(JSON.stringify({ port: this.address().port }));
    });
  },
};
