// Says what it is given and prints what it hears, a message a line, then how it
// was closed; and first what was agreed on.
//
//   node talk.mjs ws://host/v1/ws MESSAGE…
import WebSocket from "ws";

const [url, ...say] = process.argv.slice(2);
const ws = new WebSocket(url);
ws.on("open", () => {
  console.log("extensions", ws.extensions);
  for (const message of say) ws.send(message);
});
ws.on("message", (message) => console.log(message.toString()));
ws.on("close", (code, reason) => console.log("closed", code, reason.toString()));
