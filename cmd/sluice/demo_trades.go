package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"sluice/pkg/event"
)

// A trade, as the market's document has it, and who may see what:
//
//	rfq.created         everybody
//	quote.received ×N   the taker
//	quote.accepted      the taker, the solver whose quote it was
//	settlement.pending  the taker
//	settlement.complete the taker        or, now and then: settlement.failed
//	audit.recorded      the taker
//
// A new one begins every demoPace, while the ones before still run.
const demoPace = 2500 * time.Millisecond

// trade plays trades until ctx ends.
func (m *market) trade(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	failed := make(chan error, 1)
	tick := time.NewTicker(demoPace)
	defer tick.Stop()
	for n := 1; ; n++ {
		running.Go(func() {
			t := trade{market: m, number: n, solvers: []string{demoAlpha, demoBeta}}
			if err := t.play(ctx); err != nil && ctx.Err() == nil {
				select {
				case failed <- err:
				default:
				}
			}
		})
		select {
		case <-tick.C:
		case err := <-failed:
			return err
		case <-ctx.Done():
			return nil
		}
	}
}

type trade struct {
	*market
	number  int
	solvers []string
}

// auditHash is the newest entry of the audit trail: each names the one before.
var auditHash atomic.Pointer[string]

func (t *trade) play(ctx context.Context) error {
	rfq, settlement := madeUp("rfq_"), madeUp("stl_")
	amount := fmt.Sprintf("%d.00", 10_000*(1+rand.IntN(200)))
	all, taker := []string{"*"}, []string{demoTaker}
	if err := t.publish(ctx, "rfq.created", all, fields{"rfq": fields{
		"id": rfq, "pair": "USDC/USDT", "side": "buy", "amount": amount, "corridor": "ethereum-optimism",
		"deadline": time.Now().Add(5 * time.Second).Unix(), "complianceAttestation": hash(rfq),
	}}); err != nil {
		return err
	}

	var quote fields
	var winner string
	for i := range 3 + rand.IntN(3) {
		if err := pause(ctx, 100*time.Millisecond, 350*time.Millisecond); err != nil {
			return err
		}
		solver := t.solvers[i%len(t.solvers)]
		offer := fields{"id": madeUp("qt_"), "rfqId": rfq, "price": fmt.Sprintf("0.%d", 9985+rand.IntN(14)),
			"solverId": solver, "ttl": 30, "confidence": float64(90+rand.IntN(10)) / 100}
		if quote == nil || offer["price"].(string) < quote["price"].(string) {
			quote, winner = offer, solver
		}
		if err := t.publish(ctx, "quote.received", taker, fields{"quote": offer}); err != nil {
			return err
		}
	}

	if err := pause(ctx, 200*time.Millisecond, 300*time.Millisecond); err != nil {
		return err
	}
	if err := t.publish(ctx, "quote.accepted", []string{demoTaker, winner}, fields{
		"quote":      fields{"id": quote["id"], "price": quote["price"]},
		"settlement": fields{"id": settlement, "status": "pending"},
	}); err != nil {
		return err
	}
	if err := pause(ctx, 100*time.Millisecond, 200*time.Millisecond); err != nil {
		return err
	}
	escrow := hash(settlement)
	if err := t.publish(ctx, "settlement.pending", taker, fields{"settlement": fields{
		"id": settlement, "escrowTxHash": escrow, "originChainId": 1, "destinationChainId": 10,
		"fillDeadline": time.Now().Add(time.Minute).Unix(),
	}}); err != nil {
		return err
	}
	if err := pause(ctx, 800*time.Millisecond, 1600*time.Millisecond); err != nil {
		return err
	}
	return t.finish(ctx, settlement, escrow, amount)
}

// finish settles, or fails to, and writes it into the audit trail.
func (t *trade) finish(ctx context.Context, settlement, escrow, amount string) error {
	taker, now := []string{demoTaker}, time.Now().UTC().Format(event.TimestampLayout)
	typ, kind := "settlement.complete", "settlement_complete"
	end := fields{"id": settlement, "originTxHash": escrow, "destinationTxHash": hash(escrow), "amount": amount, "settledAt": now}
	if t.number%5 == 0 {
		typ, kind = "settlement.failed", "settlement_failed"
		end = fields{"id": settlement, "error": "fill_timeout", "refundTxHash": hash(escrow), "refundedAt": now}
	}
	if err := t.publish(ctx, typ, taker, fields{"settlement": end}); err != nil {
		return err
	}
	if err := pause(ctx, 100*time.Millisecond, 200*time.Millisecond); err != nil {
		return err
	}
	entry := hash(settlement + kind)
	before := auditHash.Swap(&entry)
	if before == nil {
		first := hash("")
		before = &first
	}
	return t.publish(ctx, "audit.recorded", taker, fields{"audit": fields{
		"tradeId": settlement, "type": kind, "timestamp": now, "hash": entry, "prevHash": *before,
	}})
}

type fields map[string]any

// publish publishes one event and enters it in the accounts first: it may be
// received before the answer is.
func (t *trade) publish(ctx context.Context, typ string, audience []string, data fields) error {
	id := event.NewID(time.Now())
	body := fields{"type": typ, "id": id, "data": data, "key": fmt.Sprint("trade-", t.number), "corridor": "ethereum-optimism", "audience": audience}
	if audience[0] == "*" {
		body["audience"] = "*"
	}
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	began := t.board.publishing(id, typ, t.number, audience)
	api := &client{base: t.base, token: t.platform, address: "--url", secret: "--key"}
	// An event that is on its way when the demo ends is still waited for.
	if _, err := api.send(context.WithoutCancel(ctx), http.MethodPost, "/v1/events", "application/json", text); err != nil {
		t.board.unpublished(id)
		return fmt.Errorf("publish %s: %w", typ, err)
	}
	t.board.published(id, time.Since(began))
	return nil
}

// pause waits for some time between the two, or until ctx ends.
func pause(ctx context.Context, least, most time.Duration) error {
	select {
	case <-time.After(least + rand.N(most-least)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func madeUp(prefix string) string { return fmt.Sprintf("%s%06x", prefix, rand.IntN(1<<24)) }

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return "0x" + hex.EncodeToString(sum[:])
}
