package event

import (
	"crypto/sha256"
	"encoding/binary"
	"time"
)

// EndpointDisabled is the type of the event by which an org learns that one of
// its endpoints was disabled. Its data is {"endpointId","url","reason","disabledAt"}.
const EndpointDisabled = "endpoint.disabled"

// DisabledID gives the id of the event that tells that the endpoint was disabled
// at that millisecond: the same whoever tells it, and however often, so that the
// log takes it once.
func DisabledID(endpoint string, at time.Time) string {
	b := binary.BigEndian.AppendUint64([]byte(EndpointDisabled+" "), uint64(at.UnixMilli()))
	sum := sha256.Sum256(append(b, endpoint...))
	return makeID(at, binary.BigEndian.Uint64(sum[:8]), binary.BigEndian.Uint64(sum[8:16]))
}

// TellsOf reports whether the event tells the endpoint's own disabling. That is
// for everybody else in its org.
func (ev *Event) TellsOf(endpoint string) bool {
	if ev.Type != EndpointDisabled {
		return false
	}
	at, ours := IDTime(ev.ID)
	return ours && ev.ID == DisabledID(endpoint, at)
}
