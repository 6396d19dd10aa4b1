// Takes webhooks with the functions that the guide prints, whose files are named on
// the command line: one that verifies, and a handler for an Express application. What
// the handler does with a webhook it leaves to its reader: this answers it. The secret
// is in a file, the third, once there is one. Prints the port it listens on, then a
// JSON line for each request.
require("./express.cjs");
const vm = require("node:vm");
const fs = require("node:fs");

app.use(express.json());
app.use((req, res, next) => {
  const genuine = verifyWebhook(req.body, req.headers["x-tempo-signature"], fs.readFileSync(process.argv[4], "utf8"));
  if (genuine) next();
  console.log(JSON.stringify({ genuine, again: res.writableEnded, event: req.body }));
  if (!res.writableEnded) res.writeHead(genuine ? 200 : 401).end();
});
for (const file of process.argv.slice(2, 4)) vm.runInThisContext(fs.readFileSync(file, "utf8"));
