// Takes webhooks with the functions that the guide prints as good practice, whose files
// are named on the command line. Stands in for what they take for granted: Express, and
// those who handle what they hand on. Prints the port, then a JSON line for each order
// filled.
require("./express.cjs");
const vm = require("node:vm");
const fs = require("node:fs");

app.use(express.json());
globalThis.processWebhookAsync = (event) => processWebhook(event);
globalThis.handleEvent = (event) => handleWebhookEvent(event.eventType, event.data);
globalThis.handleOrderFilled = (data) => console.log(JSON.stringify({ handled: data }));
for (const file of process.argv.slice(2)) vm.runInThisContext(fs.readFileSync(file, "utf8"));
