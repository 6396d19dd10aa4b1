package index

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"sluice/pkg/attempts"
	"sluice/pkg/event"
)

// looksAt bounds the rows that one List looks at.
const looksAt = 50_000

// List implements attempts.Store.
func (s *Store) List(ctx context.Context, q attempts.Query) (page attempts.Page, err error) {
	if err := s.enter(); err != nil {
		return page, err
	}
	defer s.use.RUnlock()
	// Those that are delivered are most; who asks for others doesn't look at them.
	kind := byte(kindRow)
	if len(q.Statuses) > 0 && !slices.Contains(q.Statuses, attempts.Delivered) {
		kind = kindOpen
	}
	from, to := span(kind, q.Endpoint)
	from = binary.BigEndian.AppendUint64(from, uint64(max(0, q.From)))
	if q.To > 0 {
		to = binary.BigEndian.AppendUint64(to[:len(to)-8], uint64(q.To))
	}
	it, err := s.db.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: from, UpperBound: to})
	if err != nil {
		return page, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	ok := it.Last
	if q.Before != (attempts.Key{}) {
		before := q.Before
		before.Endpoint = q.Endpoint
		ok = func() bool { return it.SeekLT(appendKey(nil, kind, &before)) }
	}
	looked := 0
	for more := ok(); more; more = it.Prev() {
		k, known := decodeKey(it.Key())
		if !known {
			continue
		}
		row, err := s.shown(it, kind, &k, q.Statuses)
		if err != nil {
			return page, err
		}
		if row != nil {
			page.Rows = append(page.Rows, *row)
		}
		if looked++; len(page.Rows) == q.Limit || looked == looksAt {
			if it.Prev() {
				page.Next = k
			}
			return page, it.Error()
		}
	}
	return page, it.Error()
}

// Count implements attempts.Store.
func (s *Store) Count(_ context.Context, endpoint string, from int64, most int) (n int, err error) {
	if err := s.enter(); err != nil {
		return 0, err
	}
	defer s.use.RUnlock()
	if most < 1 {
		return 0, nil
	}
	begin, end := span(kindRow, endpoint)
	err = s.scan(binary.BigEndian.AppendUint64(begin, uint64(max(0, from))), end, func(_, _ []byte) bool {
		n++
		return n < most
	})
	return n, err
}

// shown gives the row that an iterator stands at, if its status is wanted.
func (s *Store) shown(it *pebble.Iterator, kind byte, k *attempts.Key, statuses []attempts.Status) (*attempts.Row, error) {
	value, err := it.ValueAndErr()
	if err != nil {
		return nil, err
	}
	if kind == kindOpen {
		if !slices.Contains(statuses, decodeStep(value).Status()) {
			return nil, nil
		}
		row, err := s.row(k)
		if err != nil || row == nil || row.Step.Status() != attempts.Delivered {
			return row, err
		}
		// What came before its success was read behind it.
		return nil, s.db.Delete(it.Key(), pebble.NoSync)
	}
	row, ok := decodeRow(it.Key(), value)
	if !ok || len(statuses) > 0 && !slices.Contains(statuses, row.Step.Status()) {
		return nil, nil
	}
	return row, nil
}

// row gives a row; nil: there is none.
func (s *Store) row(k *attempts.Key) (*attempts.Row, error) {
	key := rowKey(k)
	value, found, err := s.get(key)
	if err != nil || !found {
		return nil, err
	}
	row, _ := decodeRow(key, value)
	return row, nil
}

// Find implements attempts.Store.
func (s *Store) Find(_ context.Context, endpoint, delivery string) (*attempts.Row, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.use.RUnlock()
	k := attempts.Key{Endpoint: endpoint, Delivery: delivery}
	value, found, err := s.get(appendIDKey(nil, &k))
	if err != nil || !found || len(value) != 8 {
		return nil, err
	}
	k.Event = int64(binary.BigEndian.Uint64(value))
	return s.row(&k)
}

// Of implements attempts.Store.
func (s *Store) Of(_ context.Context, env event.Environment, offset int64, after string, limit int) ([]attempts.Row, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.use.RUnlock()
	from, to := eventSpan(env, offset, offset+1)
	if after != "" {
		from = append(appendDelivery(from, after), 0)
	}
	var keys []attempts.Key
	err := s.scan(from, to, func(key, value []byte) bool {
		if k, ok := decodeEventKey(key, value); ok {
			keys = append(keys, k)
		}
		return len(keys) < limit
	})
	var rows []attempts.Row
	for i := range keys {
		row, err := s.row(&keys[i])
		if err != nil {
			return nil, err
		}
		if row != nil {
			rows = append(rows, *row)
		}
	}
	return rows, err
}
