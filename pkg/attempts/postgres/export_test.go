package postgres

import (
	"context"

	"sluice/pkg/attempts"
)

// AgeTables makes all tables a day older.
func AgeTables(ctx context.Context, s attempts.Store) error {
	own := s.(*Store)
	_, err := own.pool.Exec(ctx, own.sql(`UPDATE %s_day SET day = day - 1`))
	return err
}

// Drop has the database forget a store that nobody uses.
func Drop(ctx context.Context, s attempts.Store) error {
	own := s.(*Store)
	days, err := own.days(ctx, own.pool)
	for _, d := range days {
		if _, err := own.pool.Exec(ctx, `DROP TABLE `+d.name); err != nil {
			return err
		}
	}
	if err == nil {
		_, err = own.pool.Exec(ctx, own.sql(`DROP TABLE %s_state, %s_position, %s_day`))
	}
	return err
}
