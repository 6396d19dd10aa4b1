package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// accounting is the taker's accounting: it verifies each request in two ways, as
// TetraFi's guide shows and by the Standard Webhooks library, and answers one
// delivery in demoRefuses with 500, the first time it comes.
type accounting struct {
	market *market
	server *http.Server
	id     string
	secret string

	first atomic.Int64 // deliveries that came for the first time
	until atomic.Int64 // Unix ns after which nothing is refused; 0: never
}

const demoRefuses = 6

func (m *market) startAccounting(ctx context.Context) (*accounting, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &accounting{market: m}
	r.server = &http.Server{Handler: r, ReadHeaderTimeout: 5 * time.Second}
	go r.server.Serve(ln)

	var made webhook
	events := []string{"settlement.*", "audit.recorded"}
	in := map[string]any{"url": "http://" + ln.Addr().String() + "/hook", "events": events, "description": "accounting"}
	if _, err := r.api().call(ctx, http.MethodPost, webhooksPath, in, &made); err != nil {
		r.server.Close()
		return nil, fmt.Errorf("register webhook: %w", err)
	}
	r.id, r.secret = made.ID, made.Secret
	m.board.expect(accountingName, demoTaker, events)
	return r, nil
}

func (r *accounting) api() *client {
	return &client{base: r.market.base, token: r.market.taker, address: "--url", secret: "--key"}
}

// failUntil lets nothing be refused any more after t: a retry takes 5 s, and the
// end needn't wait for one.
func (r *accounting) failUntil(t time.Time) { r.until.Store(t.UnixNano()) }

func (r *accounting) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if _, err := r.api().call(ctx, http.MethodDelete, webhookPath(r.id), nil, nil); err != nil {
		r.market.board.notice(accountingName, err.Error())
	}
	r.server.Close()
}

func (r *accounting) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(io.LimitReader(req.Body, 1<<20))
	if err != nil {
		return
	}
	var ev message
	if err := json.Unmarshal(body, &ev); err != nil {
		r.market.board.unverified(accountingName, ev.Type, fmt.Errorf("body: %w", err))
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if err := r.verify(req.Header, body); err != nil {
		r.market.board.unverified(accountingName, ev.Type, err)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	attempt, _ := strconv.Atoi(req.Header.Get("X-TetraFi-Attempt"))
	until := r.until.Load()
	if attempt == 1 && r.first.Add(1)%demoRefuses == 1 && (until == 0 || time.Now().UnixNano() < until) {
		r.market.board.refused(ev.ID, ev.Type, attempt)
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	r.market.board.delivered(ev.ID, ev.Type, attempt)
}

// verify is what a receiver does before it believes anything.
func (r *accounting) verify(h http.Header, body []byte) error {
	stamp := h.Get("X-TetraFi-Timestamp")
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || time.Since(time.Unix(seconds, 0)).Abs() > 5*time.Minute {
		return fmt.Errorf("X-TetraFi-Timestamp %q is not of the last 5 minutes", stamp)
	}
	mac := hmac.New(sha256.New, []byte(r.secret))
	fmt.Fprintf(mac, "%s.%s", stamp, body)
	if !hmac.Equal([]byte(hex.EncodeToString(mac.Sum(nil))), []byte(h.Get("X-TetraFi-Signature"))) {
		return errors.New("X-TetraFi-Signature is wrong")
	}
	standard, err := standardwebhooks.NewWebhook(r.secret)
	if err != nil {
		return err
	}
	return standard.Verify(body, h)
}
