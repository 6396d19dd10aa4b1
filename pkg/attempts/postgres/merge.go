package postgres

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"sluice/pkg/attempts"
	"sluice/pkg/delivery"
	"sluice/pkg/event"
)

func attemptsFence(n int64) delivery.Fence { return delivery.Fence(uint64(n)) }

// Merge implements attempts.Store: two statements for each table that it changes,
// and one for the positions, in one transaction.
func (s *Store) Merge(ctx context.Context, parts []attempts.Row, to []attempts.Position) error {
	return s.write(ctx, func(tx pgx.Tx) error {
		days, err := s.days(ctx, tx)
		if err != nil {
			return err
		}
		for _, env := range event.Environments {
			if slices.ContainsFunc(parts, func(row attempts.Row) bool { return row.Environment == env }) {
				if days, err = s.today(ctx, tx, days, env); err != nil {
					return err
				}
			}
		}
		tables := make(map[string][]*attempts.Row)
		for i := range parts {
			name := within(days, &parts[i])
			tables[name] = append(tables[name], &parts[i])
		}
		for name, rows := range tables {
			if err := mergeInto(ctx, tx, name, rows); err != nil {
				return fmt.Errorf("merge %d deliveries into %s: %w", len(rows), name, err)
			}
		}
		return s.move(ctx, tx, to)
	})
}

func (s *Store) move(ctx context.Context, tx pgx.Tx, to []attempts.Position) error {
	var topics []string
	var numbers []int32
	var nexts, fences []int64
	for _, pos := range to {
		topics, numbers = append(topics, pos.Topic), append(numbers, pos.Number)
		nexts, fences = append(nexts, pos.Next), append(fences, int64(pos.Fence))
	}
	if len(to) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, s.sql(`INSERT INTO %s_position SELECT * FROM unnest($1::text[], $2::integer[], $3::bigint[], $4::bigint[])
		ON CONFLICT (topic, number) DO UPDATE SET next = excluded.next, fence = excluded.fence`), topics, numbers, nexts, fences)
	return err
}

// today begins a table for an environment's new events when the day is over.
func (s *Store) today(ctx context.Context, tx pgx.Tx, days []day, env event.Environment) ([]day, error) {
	d := day{env: env, day: time.Now().UTC().Truncate(24 * time.Hour)}
	for i := range days {
		newest := &days[i]
		if newest.env != env {
			continue
		}
		if !newest.day.Before(d.day) {
			return days, nil
		}
		var last *int64
		if err := tx.QueryRow(ctx, `SELECT max(event) FROM `+newest.name).Scan(&last); err != nil || last == nil {
			return days, err // one that is empty goes on
		}
		d.first = *last + 1
		break
	}
	d.name = fmt.Sprintf("%s_%s_%d", s.name, env, d.first)
	if err := s.makeDay(ctx, tx, &d); err != nil {
		return nil, err
	}
	return append([]day{d}, days...), nil
}

// within finds the table that has a row's event; there is one, since the oldest of
// all begins at 0, and what belongs into one that was dropped goes into the oldest.
func within(days []day, row *attempts.Row) string {
	name := ""
	for _, d := range days {
		if d.env == row.Environment {
			if name = d.name; d.first <= row.Event {
				break
			}
		}
	}
	return name
}

func (s *Store) makeDay(ctx context.Context, tx pgx.Tx, d *day) error {
	for _, sql := range []string{
		`CREATE TABLE %s (endpoint text COLLATE "C", event bigint, delivery text COLLATE "C", event_id text NOT NULL, type text NOT NULL, test boolean NOT NULL,
			step integer NOT NULL, status smallint NOT NULL, next timestamptz, reason text NOT NULL, created timestamptz NOT NULL, updated timestamptz NOT NULL,
			number integer NOT NULL, class text NOT NULL, http integer NOT NULL, attempts bigint[] NOT NULL, PRIMARY KEY (endpoint, event, delivery))`,
		`CREATE INDEX ON %s (delivery)`,
		`CREATE INDEX ON %s (event)`,
		`CREATE INDEX ON %s (endpoint, status, event) WHERE status <> ` + strconv.Itoa(int(attempts.Delivered)),
	} {
		if _, err := tx.Exec(ctx, strings.ReplaceAll(sql, "%s", d.name)); err != nil {
			return fmt.Errorf("make table %s: %w", d.name, err)
		}
	}
	_, err := tx.Exec(ctx, s.sql(`INSERT INTO %s_day VALUES ($1, $2, $3, $4)`), int16(d.env), d.first, d.name, d.day)
	return err
}

// mergeInto brings parts into the rows of a table.
func mergeInto(ctx context.Context, tx pgx.Tx, table string, parts []*attempts.Row) error {
	known := make(map[attempts.Key]*attempts.Row, len(parts))
	var endpoints, deliveries []string
	var events []int64
	for _, p := range parts {
		known[p.Key] = p
		endpoints, deliveries, events = append(endpoints, p.Endpoint), append(deliveries, p.Delivery), append(events, p.Event)
	}
	old, err := tx.Query(ctx, `SELECT `+columns+` FROM `+table+` JOIN unnest($1::text[], $2::bigint[], $3::text[]) AS k (endpoint, event, delivery)
		USING (endpoint, event, delivery)`, endpoints, events, deliveries)
	if err != nil {
		return err
	}
	err = each(old, parts[0].Environment, func(row *attempts.Row) {
		row.Merge(known[row.Key])
		known[row.Key] = row
	})
	if err != nil {
		return err
	}
	var c rowColumns
	for _, p := range parts {
		c.add(known[p.Key])
	}
	_, err = tx.Exec(ctx, `INSERT INTO `+table+` (`+columns+`, status)
		SELECT a, b, c, d, e, f, g, h, i, j, k, l, m, n, o::bigint[], p FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::boolean[], $7::integer[],
			$8::timestamptz[], $9::text[], $10::timestamptz[], $11::timestamptz[], $12::integer[], $13::text[], $14::integer[], $15::text[], $16::smallint[])
			AS r (a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p)
		ON CONFLICT (endpoint, event, delivery) DO UPDATE SET step = excluded.step, status = excluded.status, next = excluded.next, reason = excluded.reason,
			created = excluded.created, updated = excluded.updated, number = excluded.number, class = excluded.class, http = excluded.http, attempts = excluded.attempts`, c.args()...)
	return err
}

// columns are those of a row, in the order in which each reads them.
const columns = `endpoint, event, delivery, event_id, type, test, step, next, reason, created, updated, number, class, http, attempts`

// rowColumns are rows, column by column.
type rowColumns struct {
	endpoint, delivery, eventID, typ, reason, class, attempts []string
	event                                                     []int64
	test                                                      []bool
	step, number, http                                        []int32
	next                                                      []*time.Time
	created, updated                                          []time.Time
	status                                                    []int16
}

func (c *rowColumns) add(row *attempts.Row) {
	c.endpoint, c.event, c.delivery = append(c.endpoint, row.Endpoint), append(c.event, row.Event), append(c.delivery, row.Delivery)
	c.eventID, c.typ, c.test = append(c.eventID, row.EventID), append(c.typ, row.Type), append(c.test, row.Test)
	c.step, c.status = append(c.step, int32(row.Step)), append(c.status, int16(row.Step.Status()))
	var next *time.Time
	if !row.Next.IsZero() {
		next = &row.Next
	}
	c.next, c.reason = append(c.next, next), append(c.reason, text(row.Reason))
	c.created, c.updated = append(c.created, row.Created), append(c.updated, row.Updated)
	c.number, c.class, c.http = append(c.number, int32(row.Number)), append(c.class, text(string(row.Class))), append(c.http, int32(row.HTTP))
	list := []byte{'{'}
	for i, at := range row.Attempts {
		if i > 0 {
			list = append(list, ',')
		}
		list = strconv.AppendInt(list, at, 10)
	}
	c.attempts = append(c.attempts, string(append(list, '}')))
}

func (c *rowColumns) args() []any {
	return []any{c.endpoint, c.event, c.delivery, c.eventID, c.typ, c.test, c.step, c.next, c.reason, c.created, c.updated, c.number, c.class, c.http, c.attempts, c.status}
}

// text gives what PostgreSQL takes as text.
func text(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// Forget implements attempts.Store.
func (s *Store) Forget(ctx context.Context, endpoint string) error {
	return s.write(ctx, func(tx pgx.Tx) error {
		days, err := s.days(ctx, tx)
		for _, d := range days {
			if _, err := tx.Exec(ctx, `DELETE FROM `+d.name+` WHERE endpoint = $1`, endpoint); err != nil {
				return err
			}
		}
		return err
	})
}

// Expire implements attempts.Store: it drops the tables that have nothing newer.
func (s *Store) Expire(ctx context.Context, env event.Environment, before int64) error {
	return s.write(ctx, func(tx pgx.Tx) error {
		days, err := s.days(ctx, tx)
		if err != nil {
			return err
		}
		end := int64(-1) // of a table's events; -1: it is the newest
		for _, d := range days {
			if d.env != env {
				continue
			}
			if end >= 0 && end <= before {
				if err := s.dropDay(ctx, tx, d); err != nil {
					return err
				}
			}
			end = d.first
		}
		return nil
	})
}
