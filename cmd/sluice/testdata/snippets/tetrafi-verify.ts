import crypto from "crypto";

function verifyWebhook(
  body: string,
  signature: string,
  timestamp: string,
  secret: string
): boolean {
  // Prevent replay attacks: reject requests older than 5 minutes
  const age = Date.now() / 1000 - parseInt(timestamp);
  if (age > 300) return false;

  // Compute expected signature
  const expected = crypto
    .createHmac("sha256", secret)
    .update(`{timestamp}.{body}`)
    .digest("hex");

  // Timing-safe comparison
  return crypto.timingSafeEqual(
    Buffer.from(signature),
    Buffer.from(expected)
  );
}

// Express handler
app.post("/webhook/tetrafi", express.raw({ type: "*/*" }), (req, res) => {
  const signature = req.headers["x-tetrafi-signature"] as string;
  const timestamp = req.headers["x-tetrafi-timestamp"] as string;
  const body = req.body.toString();

  if (!verifyWebhook(body, signature, timestamp, WEBHOOK_SECRET)) {
    return res.status(401).json({ error: "Invalid signature" });
  }

  const event = JSON.parse(body);
  handleEvent(event);
  res.status(200).json({ received: true });
});
