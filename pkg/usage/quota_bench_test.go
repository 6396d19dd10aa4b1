package usage_test

import (
	"context"
	"fmt"
	"testing"

	"sluice/pkg/eventlog/eventlogtest"
	"sluice/pkg/usage"
)

// BenchmarkQuotaTake measures what a delivery that counts takes of its org's quota, where
// the plan has one and where it has none, by as many as there are processors.
func BenchmarkQuotaTake(b *testing.B) {
	for _, most := range []int{0, 1 << 40} {
		b.Run(fmt.Sprint("most=", most), func(b *testing.B) {
			var quota usage.Quota
			totals := usage.NewTotals(usage.TotalsConfig{Log: eventlogtest.Mem(b, usage.Topic), Quota: &quota})
			ctx, end := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() { done <- totals.Run(ctx) }()
			<-totals.Ready()
			a := quota.Of("org_a")
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if !a.Take(most) {
						b.Error("it is refused")
					}
					a.Return(1)
				}
			})
			end()
			<-done
		})
	}
}
