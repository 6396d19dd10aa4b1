// Stands in for what the guide's client takes for granted: a WebSocket, whose messages are
// printed as they come; those who handle what it is sent, which is printed, too; and a
// function that connects, which is the client itself.
const vm = require("node:vm");
const fs = require("node:fs");

globalThis.WebSocket = class extends require("ws") {
  constructor(url) {
    super(url);
    this.on("message", (message) => console.log(String(message)));
  }
};
for (const [name, what] of Object.entries({ handleRFQ: "rfq", handleQuote: "quote", handleSettlement: "settlement" })) {
  globalThis[name] = (value) => console.log(JSON.stringify({ what, value }));
}
const snippet = fs.readFileSync(process.argv[2], "utf8");
globalThis.connect = () => vm.runInThisContext(`{${snippet}}`);
connect();
