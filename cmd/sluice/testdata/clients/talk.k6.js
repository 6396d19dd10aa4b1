// Says what it is given and prints what it hears, a message a line, then how it
// was closed.
//
//   k6 run -e URL=ws://host/v1/ws -e SAY='["MESSAGE",…]' talk.k6.js
import { WebSocket } from "k6/websockets";

export default function () {
  const ws = new WebSocket(__ENV.URL, null, { compression: "deflate" });
  ws.onopen = () => {
    console.log("extensions", String(ws.extensions));
    for (const message of JSON.parse(__ENV.SAY)) ws.send(message);
  };
  ws.onmessage = (message) => console.log(message.data);
  ws.onclose = (closed) => console.log("closed", closed.code, closed.reason);
}
