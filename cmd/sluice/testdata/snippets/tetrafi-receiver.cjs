// Takes webhooks with a handler that the guide prints in TypeScript, whose file is named
// on the command line. Stands in for what it takes for granted: Express, a secret, and
// somebody who handles events. Prints the port, then a JSON line for each event.
require("./express.cjs");
const fs = require("node:fs");
const typescript = require("typescript");

globalThis.WEBHOOK_SECRET = process.env.WEBHOOK_SECRET;
globalThis.handleEvent = (event) => console.log(JSON.stringify({ event }));
const { outputText } = typescript.transpileModule(fs.readFileSync(process.argv[2], "utf8"), {
  compilerOptions: { target: "es2022", module: "es2022" },
});
import("data:text/javascript," + encodeURIComponent(outputText));
