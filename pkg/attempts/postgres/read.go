package postgres

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"sluice/pkg/attempts"
	"sluice/pkg/delivery"
	"sluice/pkg/event"
)

// each gives rows that were asked for by columns.
func each(rows pgx.Rows, env event.Environment, fn func(*attempts.Row)) error {
	var (
		row          attempts.Row
		step, number int32
		http         int32
		next         *time.Time
		class        string
		offsets      []int64
	)
	_, err := pgx.ForEachRow(rows, []any{&row.Endpoint, &row.Event, &row.Delivery, &row.EventID, &row.Type, &row.Test, &step, &next, &row.Reason,
		&row.Created, &row.Updated, &number, &class, &http, &offsets}, func() error {
		out := row
		out.Environment, out.Step, out.Number, out.HTTP, out.Class = env, attempts.Step(step), int(number), int(http), delivery.Class(class)
		out.Created, out.Updated = row.Created.UTC(), row.Updated.UTC()
		if next != nil {
			out.Next = next.UTC()
		}
		if len(offsets) > 0 {
			out.Attempts = append([]int64(nil), offsets...)
		}
		offsets, next = nil, nil
		fn(&out)
		return nil
	})
	return err
}

// asked reads rows of all tables, or those of an environment, in one statement. A
// table that was dropped just now is looked for once.
func (s *Store) asked(ctx context.Context, env event.Environment, where, order string, limit int, args ...any) ([]attempts.Row, error) {
	var rows []attempts.Row
	for again := range 2 {
		days, err := s.days(ctx, s.pool)
		if err != nil {
			return nil, err
		}
		rows = nil
		err = nil
		for _, e := range event.Environments {
			if env != 0 && e != env {
				continue
			}
			var parts []string
			for _, d := range days {
				if d.env == e {
					parts = append(parts, fmt.Sprintf(`(SELECT %s FROM %s WHERE %s ORDER BY %s LIMIT %d)`, columns, d.name, where, order, limit))
				}
			}
			if len(parts) == 0 {
				continue
			}
			sql := fmt.Sprintf(`SELECT * FROM (%s) AS r ORDER BY %s LIMIT %d`, strings.Join(parts, " UNION ALL "), order, limit)
			var found pgx.Rows
			if found, err = s.pool.Query(ctx, sql, args...); err == nil {
				err = each(found, e, func(row *attempts.Row) { rows = append(rows, *row) })
			}
			if err != nil {
				break
			}
		}
		if err == nil {
			break
		}
		if err = readError(err); again == 1 {
			return nil, err
		}
	}
	return rows[:min(len(rows), limit)], nil
}

// List implements attempts.Store. An endpoint is of one environment, so its rows
// are in the tables of one.
func (s *Store) List(ctx context.Context, q attempts.Query) (attempts.Page, error) {
	where, args := `endpoint = $1 AND event >= $2`, []any{q.Endpoint, q.From}
	if q.To > 0 {
		args = append(args, q.To)
		where += fmt.Sprintf(` AND event < $%d`, len(args))
	}
	if q.Before != (attempts.Key{}) {
		args = append(args, q.Before.Event, q.Before.Delivery)
		where += fmt.Sprintf(` AND (event, delivery) < ($%d, $%d)`, len(args)-1, len(args))
	}
	if len(q.Statuses) > 0 {
		var list []int16
		open := true
		for _, status := range q.Statuses {
			list = append(list, int16(status))
			open = open && status != attempts.Delivered
		}
		args = append(args, list)
		where += fmt.Sprintf(` AND status = ANY($%d::smallint[])`, len(args))
		if open { // for the index of those
			where += fmt.Sprintf(` AND status <> %d`, attempts.Delivered)
		}
	}
	rows, err := s.asked(ctx, 0, where, `event DESC, delivery DESC`, q.Limit+1, args...)
	page := attempts.Page{Rows: rows}
	if len(rows) > q.Limit {
		page.Rows = rows[:q.Limit]
		page.Next = rows[q.Limit-1].Key
	}
	return page, err
}

// Count implements attempts.Store.
func (s *Store) Count(ctx context.Context, endpoint string, from int64, most int) (n int, err error) {
	days, err := s.days(ctx, s.pool)
	if err != nil {
		return 0, err
	}
	for _, d := range days {
		var more int
		sql := `SELECT count(*) FROM (SELECT 1 FROM ` + d.name + ` WHERE endpoint = $1 AND event >= $2 LIMIT $3) AS r`
		if err := s.pool.QueryRow(ctx, sql, endpoint, from, most-n).Scan(&more); err != nil {
			return 0, readError(err)
		}
		n += more
	}
	return n, nil
}

// Find implements attempts.Store.
func (s *Store) Find(ctx context.Context, endpoint, delivery string) (*attempts.Row, error) {
	rows, err := s.asked(ctx, 0, `delivery = $1 AND endpoint = $2`, `event`, 1, delivery, endpoint)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	return &rows[0], nil
}

// Of implements attempts.Store.
func (s *Store) Of(ctx context.Context, env event.Environment, offset int64, after string, limit int) ([]attempts.Row, error) {
	return s.asked(ctx, env, `event = $1 AND delivery > $2`, `delivery`, limit, offset, after)
}

// Endpoints implements attempts.Store: one after the other, each found by an index.
func (s *Store) Endpoints(ctx context.Context, after string, limit int) ([]string, error) {
	days, err := s.days(ctx, s.pool)
	if err != nil || len(days) == 0 {
		return nil, err
	}
	var parts []string
	for _, d := range days {
		parts = append(parts, `SELECT min(endpoint) AS e FROM `+d.name+` WHERE endpoint > $1`)
	}
	sql := `SELECT min(e) FROM (` + strings.Join(parts, " UNION ALL ") + `) AS of`
	var all []string
	for len(all) < limit {
		var next *string
		if err := s.pool.QueryRow(ctx, sql, after).Scan(&next); err != nil {
			return nil, readError(err)
		}
		if next == nil {
			break
		}
		all, after = append(all, *next), *next
	}
	return all, nil
}
