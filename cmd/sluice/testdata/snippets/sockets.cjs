// Gives Node 20 what browsers, and later Nodes, have: WebSocket.
globalThis.WebSocket = require("ws");
