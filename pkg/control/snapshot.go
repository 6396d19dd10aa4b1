package control

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"slices"

	"sluice/pkg/datadir"
	"sluice/pkg/eventlog"
)

// A snapshot is the state in a local file, so that a start needn't read the
// whole log. It is a copy and nothing more: whatever is wrong with it, it is
// ignored, and the log is read instead.
//
//	sluice control snapshot ⏎
//	┌────────┬───────┐┌────────┬───────┐     ┌───┬────────┐
//	│ length │ head  ││ length │ thing │  …  │ 0 │ CRC-32C│   of all before it
//	└────────┴───────┘└────────┴───────┘     └───┴────────┘
//
// The head has the format, the place in the log, and the hash of the state, which
// must come out again when the things are read.
const magic = "sluice control snapshot\n"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// moment is a state at one place in the log, to be written while the state goes
// on: what its lists point to never changes.
type moment struct {
	head
	log       []byte // as appendLog has it
	orgs      []*Org // in order of creation
	gone      []string
	keys      []*Key
	endpoints []*entry
	replays   []*Replay
	providers []*Provider
	users     []*User
}

// head says where in which log a snapshot is from.
type head struct {
	offset  int64    // of the newest command applied
	record  [32]byte // SHA-256 of that command: another log has another there
	skipped int64
	hash    [32]byte
}

// moment copies what a snapshot is made of: 8 bytes for each thing. c.mu is held.
func (c *Control) moment() *moment {
	s := c.state
	m := &moment{
		head: head{offset: c.applied, record: c.newest, skipped: c.skipped, hash: s.hash},
		log:  appendLog(nil, s), endpoints: make([]*entry, 0, len(s.endpoints)), keys: make([]*Key, 0, len(s.keys)),
	}
	for _, id := range s.orgIDs {
		m.orgs = append(m.orgs, s.orgs[id])
	}
	for id := range s.gone {
		m.gone = append(m.gone, id)
	}
	for _, list := range s.keysOf {
		m.keys = append(m.keys, list...)
	}
	for _, h := range s.homes {
		m.endpoints = append(m.endpoints, h.entries...)
	}
	for _, list := range s.replays {
		m.replays = append(m.replays, list...)
	}
	for org := range s.providers {
		m.providers = append(m.providers, providersOf(s, org)...)
	}
	for _, u := range s.users {
		m.users = append(m.users, u)
	}
	return m
}

// replace puts a snapshot in place of the one before; a test ends the process in it.
var replace = datadir.Replace

func (m *moment) encode(to io.Writer) error {
	slices.SortFunc(m.keys, func(a, b *Key) int { return cmp.Compare(a.created, b.created) })
	slices.SortFunc(m.endpoints, func(a, b *entry) int { return cmp.Compare(a.created, b.created) })
	slices.SortFunc(m.replays, func(a, b *Replay) int { return cmp.Compare(a.created, b.created) })
	slices.SortFunc(m.providers, func(a, b *Provider) int { return cmp.Compare(a.created, b.created) })
	sum := crc32.New(castagnoli)
	out := bufio.NewWriterSize(io.MultiWriter(to, sum), 64<<10)
	out.WriteString(magic)
	var length [binary.MaxVarintLen64]byte
	put := func(thing []byte) []byte {
		out.Write(binary.AppendUvarint(length[:0], uint64(len(thing))))
		out.Write(thing)
		return thing[:0]
	}
	buf := put(m.appendHead(nil))
	put(m.log)
	for _, o := range m.orgs {
		buf = put(appendOrg(buf, o))
	}
	for _, id := range m.gone {
		buf = put(appendGone(buf, id))
	}
	for _, k := range m.keys {
		buf = put(appendKey(buf, k))
	}
	for _, e := range m.endpoints {
		buf = put(appendEndpoint(buf, e))
	}
	for _, r := range m.replays {
		buf = put(appendReplay(buf, r))
	}
	for _, p := range m.providers {
		buf = put(appendProvider(buf, p))
	}
	for _, u := range m.users {
		buf = put(appendUser(buf, u))
	}
	put(nil)
	if err := out.Flush(); err != nil { // the first error there was
		return err
	}
	_, err := to.Write(binary.BigEndian.AppendUint32(nil, sum.Sum32()))
	return err
}

func (h *head) appendHead(b []byte) []byte {
	b = binary.AppendUvarint(b, format)
	b = binary.AppendVarint(b, h.offset)
	b = append(b, h.record[:]...)
	b = binary.AppendVarint(b, h.skipped)
	return append(b, h.hash[:]...)
}

func readHead(b []byte) (h head, err error) {
	r := reader{rest: string(b)}
	if v := r.uvarint(); v != format && !r.bad {
		return h, fmt.Errorf("it has format %d, this release writes %d", v, format)
	}
	h.offset = r.varint()
	copy(h.record[:], r.take(len(h.record)))
	h.skipped = r.varint()
	copy(h.hash[:], r.take(len(h.hash)))
	if !r.done() || h.offset < 0 {
		return h, errDamaged
	}
	return h, nil
}

// resume begins with the snapshot, if there is one and it is of this log. Why it
// isn't used is logged, and nothing worse.
func (c *Control) resume(ctx context.Context) {
	if c.path == "" {
		return
	}
	err := c.readSnapshot(ctx)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.logger.Warn("snapshot of control ignored, its whole log is read", "file", c.path, "error", err)
	}
}

func (c *Control) readSnapshot(ctx context.Context) error {
	f, err := os.Open(c.path)
	if err != nil {
		return err
	}
	defer f.Close()
	in := newThings(f)
	h, err := in.head()
	if err != nil {
		return err
	}
	if err := c.sameLog(ctx, h); err != nil {
		return err
	}
	s := newState(c.sealer)
	if err := in.load(s); err != nil {
		return err
	}
	if s.hash != h.hash || !s.begun {
		return errDamaged
	}
	if err := s.missingKey(); err != nil {
		return err
	}
	c.state, c.applied, c.newest, c.skipped = s, h.offset, h.record, h.skipped
	c.trail.note(h.offset, h.hash) // its node's check comes right behind it
	c.resumed = true
	return nil
}

// sameLog looks at the newest command that the snapshot has applied: its id is
// random, so that a log that was restored, or made anew, has another there.
func (c *Control) sameLog(ctx context.Context, h head) error {
	records, err := c.log.Read(ctx, partition, h.offset, 1)
	switch {
	case errors.Is(err, eventlog.ErrPastEnd):
		return fmt.Errorf("it was made at offset %d, where the log hasn't come to yet", h.offset)
	case err != nil:
		return fmt.Errorf("read control log: %w", err)
	case len(records) == 0:
		return fmt.Errorf("it was made at offset %d, where the log hasn't come to yet", h.offset)
	case records[0].Offset != h.offset || sha256.Sum256(records[0].Value) != h.record:
		return fmt.Errorf("it is of another log, with another command at offset %d", h.offset)
	}
	return nil
}

// things reads a snapshot.
type things struct {
	in  *bufio.Reader
	sum uint32 // of what was read
	buf []byte
}

func newThings(from io.Reader) *things {
	return &things{in: bufio.NewReaderSize(from, 64<<10)}
}

func (t *things) head() (head, error) {
	b, err := t.take(len(magic))
	if err != nil || string(b) != magic {
		return head{}, errDamaged
	}
	if b, err = t.next(); err != nil {
		return head{}, err
	}
	return readHead(b)
}

// load adds all things to the state and checks that the file ends as it should.
func (t *things) load(s *state) error {
	for {
		thing, err := t.next()
		switch {
		case err != nil:
			return err
		case len(thing) > 0:
			if err := s.load(string(thing)); err != nil {
				return err
			}
			continue
		}
		want := t.sum
		if b, err := t.take(4); err != nil || binary.BigEndian.Uint32(b) != want {
			return errDamaged
		}
		if _, err := t.in.ReadByte(); err != io.EOF {
			return errDamaged
		}
		return nil
	}
}

// next gives the next thing, good until the one after; empty: the last was before.
func (t *things) next() ([]byte, error) {
	n, err := binary.ReadUvarint(t)
	if err != nil || n > eventlog.MaxRecord {
		return nil, errDamaged
	}
	return t.take(int(n))
}

// ReadByte is for binary.ReadUvarint.
func (t *things) ReadByte() (byte, error) {
	b, err := t.in.ReadByte()
	if err == nil {
		t.sum = crc32.Update(t.sum, castagnoli, []byte{b})
	}
	return b, err
}

func (t *things) take(n int) ([]byte, error) {
	t.buf = slices.Grow(t.buf[:0], n)[:n]
	if _, err := io.ReadFull(t.in, t.buf); err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	t.sum = crc32.Update(t.sum, castagnoli, t.buf)
	return t.buf, nil
}
