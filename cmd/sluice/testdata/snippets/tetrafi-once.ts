// Store processed delivery IDs to prevent double-processing
const processedIds = new Set<string>();

app.post("/webhook/tetrafi", (req, res) => {
  const deliveryId = req.headers["x-tetrafi-delivery-id"] as string;

  if (processedIds.has(deliveryId)) {
    return res.status(200).json({ received: true, duplicate: true });
  }

  processedIds.add(deliveryId);
  // Process event...
  res.status(200).json({ received: true });
});
