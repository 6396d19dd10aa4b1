package eventlog

// Private is what a log implements that this process alone writes to, and whose
// Append is all or nothing: after a crash, too, the records of one call are in
// the log together or not at all. It gives nothing more to call; whoever knows
// may leave out what agreement between processes takes.
type Private interface {
	Appender
	// Private does nothing.
	Private()
}
