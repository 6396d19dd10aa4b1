// An accounting receiver written the way TetraFi's guide shows, which also has
// the Standard Webhooks library verify the same request. It fails each delivery's
// first attempt with 500, verifies every attempt, and tells repeats by delivery id.
// Prints the port it listens on, then a JSON line for each request.
//
//   node receiver.mjs   with WEBHOOK_SECRET in the environment
import crypto from "node:crypto";
import http from "node:http";
import { Webhook } from "standardwebhooks";

const secret = process.env.WEBHOOK_SECRET;
const processed = new Set();
const failed = new Set();

function genuine(body, signature, timestamp) {
  if (Date.now() / 1000 - Number.parseInt(timestamp, 10) > 300) return false;
  const expected = crypto.createHmac("sha256", secret).update(`${timestamp}.${body}`).digest("hex");
  return crypto.timingSafeEqual(Buffer.from(signature), Buffer.from(expected));
}

http.createServer((req, res) => {
  const chunks = [];
  req.on("data", (chunk) => chunks.push(chunk));
  req.on("end", () => {
    const body = Buffer.concat(chunks).toString();
    const seen = { attempt: req.headers["x-tetrafi-attempt"], header: req.headers["x-tetrafi-event"], delivery: req.headers["x-tetrafi-delivery-id"] };
    seen.sameId = seen.delivery === req.headers["x-tetrafi-deliveryid"];
    seen.genuine = genuine(body, req.headers["x-tetrafi-signature"], req.headers["x-tetrafi-timestamp"]);
    try {
      new Webhook(secret).verify(body, req.headers);
      seen.standard = true;
    } catch (error) {
      seen.standard = String(error);
    }
    seen.event = JSON.parse(body);
    seen.duplicate = processed.has(seen.delivery);
    const status = seen.genuine ? (failed.has(seen.delivery) ? 200 : 500) : 401;
    failed.add(seen.delivery);
    if (status === 200) processed.add(seen.delivery);
    console.log(JSON.stringify(seen));
    res.writeHead(status, { "content-type": "application/json" });
    res.end(JSON.stringify({ received: status === 200 }));
  });
}).listen(0, "127.0.0.1", function () {
  console.log(JSON.stringify({ port: this.address().port }));
});
