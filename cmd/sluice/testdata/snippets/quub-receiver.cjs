// Stands in for what the guide's handler takes for granted: Express, and somebody who
// handles events. Prints the port, then a JSON line for each event.
require("./express.cjs");

globalThis.handleWebhookEvent = (eventType, data) => console.log(JSON.stringify({ eventType, data }));
