// The verifier that TetraFi's "Real-time events" prints, with its types taken
// off and the $ of its template put back. What is below it reads requests from
// standard input, one JSON object a line, and says for each what the verifier
// said.
const crypto = require("crypto");

function verifyWebhook(body, signature, timestamp, secret) {
  // Prevent replay attacks: reject requests older than 5 minutes
  const age = Date.now() / 1000 - parseInt(timestamp);
  if (age > 300) return false;

  // Compute expected signature
  const expected = crypto
    .createHmac("sha256", secret)
    .update(`${timestamp}.${body}`)
    .digest("hex");

  // Timing-safe comparison
  return crypto.timingSafeEqual(
    Buffer.from(signature),
    Buffer.from(expected)
  );
}

for (const line of require("fs").readFileSync(0, "utf8").split("\n").filter(Boolean)) {
  const { headers, body: raw, secret } = JSON.parse(line);
  const req = { headers, body: Buffer.from(raw, "base64") };

  const signature = req.headers["x-tetrafi-signature"];
  const timestamp = req.headers["x-tetrafi-timestamp"];
  const body = req.body.toString();
  if (!verifyWebhook(body, signature, timestamp, secret)) {
    console.log("401");
    continue;
  }
  const event = JSON.parse(body);
  console.log("200", event.id, req.headers["x-tetrafi-delivery-id"]);
}
