curl -X PATCH https://api.quub.exchange/events/v1/webhooks/wh_abc123 \
  -H "Authorization: Bearer YOUR_TOKEN" \
  -H "X-Tenant-ID: your-org-id" \
  -H "Content-Type: application/json" \
  -d '{
    "events": ["order.filled", "order.created", "trade.executed"],
    "active": true
  }'
