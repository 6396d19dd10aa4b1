// A solver written the way TetraFi's guide shows: authenticate and subscribe at
// once when the socket opens, take each event apart by its type, answer pings.
// Prints what each handler was given, one JSON line each.
//
//   node solver.mjs ws://host/v1/ws   with TETRAFI_API_KEY in the environment
import WebSocket from "ws";

const print = (what, value) => console.log(JSON.stringify({ what, value }));
let retries = 0;

function connect() {
  const ws = new WebSocket(process.argv[2]);

  ws.onopen = () => {
    ws.send(JSON.stringify({ type: "auth", token: process.env.TETRAFI_API_KEY }));
    ws.send(JSON.stringify({
      type: "subscribe",
      channels: ["rfq.*", "settlement.*"],
      corridors: ["ethereum-optimism"],
    }));
  };

  ws.onmessage = (message) => {
    const event = JSON.parse(message.data);
    switch (event.type) {
      case "rfq.created": print("rfq", event.rfq); break;
      case "quote.received": print("quote", event.quote); break;
      case "settlement.complete": print("settlement", event.settlement); break;
      case "ping": ws.send(JSON.stringify({ type: "pong" })); break;
      default: print(event.type, event);
    }
  };

  ws.onerror = () => {}; // onclose follows
  ws.onclose = (closed) => {
    print("closed", closed.code);
    setTimeout(connect, Math.min(30000, 1000 * 2 ** retries++));
  };
}

connect();
