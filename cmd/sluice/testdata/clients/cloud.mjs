// Publishes one event with the CloudEvents SDK, in every way that it knows, and
// says what each was answered.
import { CloudEvent, HTTP } from "cloudevents";

const event = new CloudEvent({
  id: "A234", source: "/shop/1", type: "com.example.order.paid", subject: "order 7",
  time: "2026-11-22T03:10:00.000Z", corridor: "ethereum-optimism", data: { total: 12.5, note: "naïve" },
});

async function publish(how, { headers, body }) {
  const answer = await fetch(process.argv[2], {
    method: "POST", body, headers: { ...headers, authorization: `Bearer ${process.env.SLUICE_KEY}` },
  });
  const text = await answer.text();
  console.log(JSON.stringify({ how, status: answer.status, replayed: answer.headers.get("idempotent-replayed"), answer: JSON.parse(text) }));
}

await publish("binary", HTTP.binary(event));
await publish("structured", HTTP.structured(event));
await publish("batch", {
  headers: { "content-type": "application/cloudevents-batch+json" },
  body: JSON.stringify([event, event.cloneWith({ id: "A235" })]),
});
await publish("other data", HTTP.binary(event.cloneWith({ data: { total: 13 } })));
