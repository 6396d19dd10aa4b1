// A page as the marketplace's guide shows it, in a library's EventSource: that takes a
// fetch of ours, and so a key. It prints what its handlers are given.
import { EventSource } from "eventsource";

const [url] = process.argv.slice(2);
const es = new EventSource(url, {
  withCredentials: true,
  fetch: (input, init) => fetch(input, { ...init, headers: { ...init.headers, Authorization: `Bearer ${process.env.SLUICE_KEY}` } }),
});
es.addEventListener("open", () => console.log(JSON.stringify({ open: es.readyState })));
es.addEventListener("error", (e) => console.log(JSON.stringify({ error: e.code ?? 0, closed: es.readyState === EventSource.CLOSED })));
es.addEventListener("message", (e) => console.log(JSON.stringify({ unnamed: e.data })));
["order.status.changed", "payment.succeeded", "contract.message", "dispute.opened", "going_away", "invalid_cursor", "unauthorized"].forEach((name) => {
  es.addEventListener(name, (e) => console.log(JSON.stringify({ name, id: e.lastEventId, value: JSON.parse(e.data) })));
});
