package notice

import (
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"sluice/pkg/eventlog"
)

// A record of the topic is JSON:
//
//	{"v":1,"kind":"begin"}
//	{"v":1,"kind":"failing","endpoint":"wh_…","epoch":1,"since":"…","reason":"http_error, status 500"}
//	{"v":1,"kind":"recovered","endpoint":"wh_…"}
//	{"v":1,"kind":"disabled","endpoint":"wh_…","org":"org_…","environment":"live","url":"…","reason":"…","since":"…"}
//	{"v":1,"kind":"told","endpoint":"wh_…","published":"…","mailed":"…","missed":3,"missedAt":"…","warnedAt":"…"}
//
// Members and kinds that aren't known are passed over. A told says all that is
// known of its endpoint: the newest counts.
type record struct {
	V        int       `json:"v"`
	Kind     kind      `json:"kind"`
	Endpoint string    `json:"endpoint,omitzero"`
	Epoch    uint64    `json:"epoch,omitzero"`
	Since    time.Time `json:"since,omitzero"` // failing: its first failure; disabled: when
	Reason   string    `json:"reason,omitzero"`

	Org         string `json:"org,omitzero"`
	Environment string `json:"environment,omitzero"`
	URL         string `json:"url,omitzero"`

	told `json:",inline"`
}

const version = 1

type kind string

const (
	kindBegin     kind = "begin"    // what was disabled before isn't told of
	kindDisabled  kind = "disabled" // from here on it is owed whatever becomes of the endpoint
	kindFailing   kind = "failing"
	kindRecovered kind = "recovered"
	kindTold      kind = "told"
)

// told is what an org was told of an endpoint.
type told struct {
	Published time.Time `json:"published,omitzero"` // when it was disabled that an event told of
	Mailed    time.Time `json:"mailed,omitzero"`    // when it was disabled that a mail told of
	Missed    int64     `json:"missed,omitzero"`    // of its count, how many a mail told of
	MissedAt  time.Time `json:"missedAt,omitzero"`  // when that was
	WarnedAt  time.Time `json:"warnedAt,omitzero"`  // when a mail warned of it last
}

// Failing is the record that an endpoint has begun to fail.
func Failing(endpoint string, epoch uint64, since time.Time, reason string) eventlog.Record {
	return encode(&record{Kind: kindFailing, Endpoint: endpoint, Epoch: epoch, Since: since.UTC(), Reason: reason})
}

// Recovered is the record that an endpoint takes deliveries again.
func Recovered(endpoint string) eventlog.Record {
	return encode(&record{Kind: kindRecovered, Endpoint: endpoint})
}

func encode(r *record) eventlog.Record {
	r.V = version
	value, err := json.Marshal(r)
	if err != nil {
		panic(fmt.Sprintf("notice: %v", err)) // texts, numbers and times of this century
	}
	return eventlog.Record{Partition: partition, Key: []byte(r.Endpoint), Value: value}
}

var errRecord = errors.New("record is no notice")

func decode(value []byte) (*record, error) {
	r := new(record)
	if err := json.Unmarshal(value, r, jsontext.AllowInvalidUTF8(false)); err != nil {
		return nil, fmt.Errorf("%w: %w", errRecord, err)
	}
	if r.V != version {
		return nil, fmt.Errorf("%w: version %d", errRecord, r.V)
	}
	return r, nil
}
