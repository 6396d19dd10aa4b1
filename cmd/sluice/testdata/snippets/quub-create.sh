curl -X POST https://api.quub.exchange/events/v1/webhooks \
  -H "Authorization: Bearer YOUR_ACCESS_TOKEN" \
  -H "X-Tenant-ID: your-org-id" \
  -H "Content-Type: application/json" \
  -d '{
    "url": "https://your-server.com/webhooks/quub",
    "events": [
      "order.filled",
      "order.created",
      "deposit.completed"
    ],
    "secret": "your-webhook-secret",
    "active": true
  }'
