package index

import (
	"encoding/binary"
	"io"

	"github.com/cockroachdb/pebble/v2"

	"sluice/pkg/attempts"
)

// merger brings what was said of a delivery together when it is read, or when Pebble
// rewrites it: so that nobody has to look for a row that most often isn't there yet.
// Parts of a row come to the same in any order, and so do steps, of which the
// furthest counts.
//
// Its name is Pebble's own, since an index is refused where the name is another's:
// whether it can be read is told by format, and one that can't is made anew.
var merger = &pebble.Merger{Name: pebble.DefaultMerger.Name, Merge: func(key, value []byte) (pebble.ValueMerger, error) {
	value = append([]byte(nil), value...)
	if key[0] == kindOpen {
		return &steps{value}, nil
	}
	return &parts{value: value}, nil
}}

// parts makes a row of its parts. Most often there is one, which isn't looked into.
type parts struct {
	value []byte
	row   *attempts.Row // nil: value is all there is
}

func (p *parts) MergeNewer(value []byte) error {
	if p.row == nil {
		row, ok := decodeValue(p.value)
		if !ok { // what can't be read is as if it weren't there
			p.value = append([]byte(nil), value...)
			return nil
		}
		p.row = row
	}
	if part, ok := decodeValue(value); ok {
		p.row.Merge(part)
	}
	return nil
}

func (p *parts) MergeOlder(value []byte) error { return p.MergeNewer(value) }

func (p *parts) Finish(bool) ([]byte, io.Closer, error) {
	if p.row == nil {
		return p.value, nil, nil
	}
	return appendRow(nil, p.row), nil, nil
}

// steps keeps the furthest.
type steps struct{ furthest []byte }

func (s *steps) MergeNewer(value []byte) error {
	if decodeStep(value) > decodeStep(s.furthest) {
		s.furthest = append([]byte(nil), value...)
	}
	return nil
}

func (s *steps) MergeOlder(value []byte) error { return s.MergeNewer(value) }

func (s *steps) Finish(bool) ([]byte, io.Closer, error) { return s.furthest, nil, nil }

func appendStep(dst []byte, step attempts.Step) []byte {
	return binary.BigEndian.AppendUint32(dst, uint32(step))
}

// decodeStep reads a step; -1, of which nobody asks: it can't be read.
func decodeStep(value []byte) attempts.Step {
	if len(value) != 4 {
		return -1
	}
	return attempts.Step(binary.BigEndian.Uint32(value))
}
