package stream

import (
	"strconv"

	"sluice/pkg/dialect"
)

// Ending is a way for a connection to end: what the client is told, whether
// coming back is of use, and the name that its counter goes by.
type Ending struct {
	Name      string
	Code      uint16 // of the close frame; 0: none, or the client's own
	Reason    string // in the close frame, at most 123 bytes
	Reconnect bool   // whether the same client may come back as it is

	// discard says that nothing queued goes out any more: it is declared as dropped.
	discard bool
	// cut says that no close frame is tried: the client is gone, or takes no byte.
	cut bool
}

// The endings.
var (
	endClient = Ending{Name: "client", Reconnect: true}                                            // it sent a close frame
	endLost   = Ending{Name: "lost", Reconnect: true, cut: true}                                   // the connection broke, or closed without a word
	endSlow   = Ending{Name: "slow", Code: 4429, Reason: "queue full", Reconnect: true, cut: true} // its queue was full and it took no byte for Limits.Stall
	endSilent = Ending{Name: "silent", Code: 4408, Reason: "no sign of life", Reconnect: true, discard: true}

	endNoAuth  = Ending{Name: "no_auth", Code: 4401, Reason: "not authenticated in time"}
	endBadKey  = Ending{Name: "bad_key", Code: 4401, Reason: "unauthorized"}
	endExpired = Ending{Name: "expired", Code: 4401, Reason: "key expired", discard: true}
	endRevoked = Ending{Name: "revoked", Code: 4401, Reason: "key revoked", discard: true}

	endBadMessages = Ending{Name: "bad_messages", Code: 4400, Reason: "too many bad messages"}
	endOtherOrg    = Ending{Name: "other_principal", Code: 4400, Reason: "a connection keeps its org and environment"}
	endFlood       = Ending{Name: "flood", Code: 1008, Reason: "too many messages"}
	endProtocol    = Ending{Name: "protocol", Code: 1002}
	endBadUTF8     = Ending{Name: "bad_utf8", Code: 1007, Reason: "a text must be valid UTF-8"}
	endBadDeflate  = Ending{Name: "bad_deflate", Code: 1007, Reason: "a message that can't be inflated"}
	endTooBig      = Ending{Name: "too_big", Code: 1009} // see tooBig

	endFragments = Ending{Name: "fragments", Code: 1009, Reason: "a message in too many fragments"}

	endSpoke = Ending{Name: "spoke", Reconnect: true} // it sent something where only we do

	endCrowd    = Ending{Name: "too_many", Code: 1013, Reason: "too many connections of this org", Reconnect: true}
	endDrain    = Ending{Name: "drain", Code: 1012, Reason: "going away, reconnect", Reconnect: true}
	endLogLost  = Ending{Name: "log_lost", Code: 1012, Reason: "lost its place, resume from your cursor", Reconnect: true}
	endShutdown = Ending{Name: "shutdown", Reconnect: true, cut: true} // the drain ran out of time
)

// endings lists them all, for the counters.
var endings = []Ending{
	endClient, endLost, endSlow, endSilent, endNoAuth, endBadKey, endExpired, endRevoked, endBadMessages,
	endOtherOrg, endFlood, endProtocol, endBadUTF8, endBadDeflate, endTooBig, endFragments, endSpoke, endCrowd, endDrain, endLogLost, endShutdown,
}

func protocolError(reason string) *Ending {
	e := endProtocol
	e.Reason = reason
	return &e
}

// tooBig says how much would have been taken.
func tooBig(most int) *Ending {
	e := endTooBig
	e.Reason = "a message has at most " + strconv.Itoa(most) + " bytes"
	return &e
}

// echo answers a client's close frame with its own code.
func echo(code uint16) *Ending {
	e := endClient
	e.Code = code
	return &e
}

// unauthorized is what goes ahead of a close with 4401.
func unauthorized(message string) *dialect.Reply {
	return errorReply(dialect.Unauthorized, message)
}

func errorReply(code dialect.Code, message string) *dialect.Reply {
	return &dialect.Reply{Kind: dialect.ReplyError, Error: &dialect.Error{Code: code, Message: message}}
}

// code is the close code as its counter goes by it: few values, whatever clients
// send.
func (e *Ending) code() string {
	switch {
	case e.Code == 0:
		return "none"
	case e.Name == endClient.Name && e.Code != 1000 && e.Code != 1001:
		return "other"
	}
	return strconv.Itoa(int(e.Code))
}
