const ws = new WebSocket('wss://api.platform.tenzro.com/events/stream');

ws.onopen = () => {
  ws.send(JSON.stringify({
    type: 'subscribe',
    events: ['transaction.*'],
    apiKey: 'your-api-key'
  }));
};

ws.onmessage = (event) => {
  const data = JSON.parse(event.data);
  console.log('Event received:', data);
};
