// Command producer publishes events without sluice's API: it writes them into
// Kafka, as docs/record-format.md says, and sluice streams and delivers them. It
// uses nothing of sluice.
//
//	go run ./examples/producer --brokers localhost:9092 --topic sluice.events.sandbox --org org_default
package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Event is one as POST /v1/events takes it, with the id and the org that the API
// would know by itself.
type Event struct {
	ID       string   `json:"id"`
	Org      string   `json:"org"`
	Type     string   `json:"type"`
	Data     any      `json:"data"`
	Audience []string `json:"audience,omitempty"`
	Key      string   `json:"key,omitempty"`
}

func main() {
	brokers := flag.String("brokers", "localhost:9092", "addresses of brokers, with commas between")
	topic := flag.String("topic", "sluice.events.sandbox", "topic: the --prefix of sluice serve, then events.sandbox or events.live")
	org := flag.String("org", "org_default", "org that publishes")
	count := flag.Int("count", 3, "how many events")
	flag.Parse()
	if err := produce(strings.Split(*brokers, ","), *topic, *org, *count); err != nil {
		log.Fatal(err)
	}
}

func produce(brokers []string, topic, org string, count int) error {
	// acks=all and an idempotent producer are this client's defaults: an answer
	// means that the event won't be lost, and a retry of the client's writes no
	// second copy.
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.DefaultProduceTopic(topic))
	if err != nil {
		return err
	}
	defer client.Close()
	for n := range count {
		ev := Event{ID: "order-" + rand.Text(), Org: org, Type: "order.paid", Data: map[string]any{"number": n, "total": 45000.0}, Key: "orders"}
		value, err := json.Marshal(ev)
		if err != nil {
			return err
		}
		record, err := client.ProduceSync(context.Background(), &kgo.Record{Value: value}).First()
		if err != nil {
			return err
		}
		fmt.Println(ev.ID, record.Offset)
	}
	return nil
}
