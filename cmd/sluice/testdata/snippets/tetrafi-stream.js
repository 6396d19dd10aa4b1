const ws = new WebSocket("wss://api.tetrafi.io/v1/ws");

ws.onopen = () => {
  // Step 1: Authenticate
  ws.send(JSON.stringify({
    type: "auth",
    token: process.env.TETRAFI_API_KEY,
  }));

  // Step 2: Subscribe to channels
  ws.send(JSON.stringify({
    type: "subscribe",
    channels: ["rfq.*", "settlement.*"],
    // Optional: filter by corridor
    corridors: ["ethereum-optimism"],
  }));
};

ws.onmessage = (e) => {
  const event = JSON.parse(e.data);
  switch (event.type) {
    case "rfq.created": handleRFQ(event.rfq); break;
    case "quote.received": handleQuote(event.quote); break;
    case "settlement.complete": handleSettlement(event.settlement); break;
    case "ping": ws.send(JSON.stringify({ type: "pong" })); break;
  }
};

// Reconnect with exponential backoff
let retryCount = 0;
ws.onclose = () => {
  const delay = Math.min(30000, 1000 * Math.pow(2, retryCount++));
  setTimeout(connect, delay);
};
