// Store webhook IDs to prevent duplicate processing
const processedWebhooks = new Set();

app.post('/webhooks/tempo', (req, res) => {
  const webhookId = req.body.transactionHash;
  
  if (processedWebhooks.has(webhookId)) {
    return res.status(200).send('Already processed');
  }
  
  processedWebhooks.add(webhookId);
  // Process webhook...
});
