// Package replay reads the past: what an environment's events were, from a
// place in their topic on, newest first or oldest first, or by id.
//
//	tail ──Append──► Window (the newest, decoded, shared by all readers)
//	                    │
//	                    ▼ what is older
//	reader ◄── Newest, Forward, Find ◄── pages ◄── log, a few at a time
//
//	window.go    Window: the ring of what was just published
//	reader.go    Reader: places, cursors, the seven days that are shown
//	span.go      walking over a span of offsets, window or log
//	pages.go     what was last read of the log, shared by who reads near one another
//	newest.go    Newest: the last few that match, for who resumes
//	forward.go   Forward: oldest first, a page at a time
//	find.go      Find: one event by its id
//	recall.go    Recall: those right before a place, whose copies may follow
//
// Places are offsets, and spans of them are [from, to). There may be holes: an
// offset without an event, or with a record that is none, is passed over.
package replay
