package kafka_test

import (
	"testing"

	"sluice/pkg/eventlog"
	"sluice/pkg/eventlog/eventlogtest"
)

func TestOnBroker(t *testing.T) {
	eventlogtest.Run(t, func(t testing.TB, topics []eventlog.Topic) eventlog.Log { return eventlogtest.Kafka(t, topics...) })
}
