package notice

import (
	"context"
	"errors"
	"time"
)

// parting is how much longer than the life a mail that is on its way may take, and
// windUp what its record may: less than the topic's next owner waits for.
const (
	parting = 3 * time.Second
	windUp  = time.Second
)

func newLetter(org string) *letter { return &letter{org: org, items: make(map[itemKey]item)} }

func (it *item) key() itemKey { return itemKey{it.about, it.endpoint} }

// same reports whether both say the same.
func (it item) same(other item) bool {
	return it.key() == other.key() && it.at.Equal(other.at) && it.count == other.count
}

// send sends the mail that has been due for longest, unless one is on its way.
func (l *life) send(ctx context.Context, now time.Time) {
	for l.sending == nil {
		var first *letter
		var since time.Time
		for org, letter := range l.letters {
			if at := letter.due(l.lastMail[org]); !at.After(now) && (first == nil || at.Before(since)) {
				first, since = letter, at
			}
		}
		if first == nil || l.cfg.Mailer != nil && now.Before(l.down) {
			return
		}
		delete(l.letters, first.org)
		l.begin(ctx, first, now)
	}
}

// begin has a letter's mail sent, or logs what it would say where none can be.
func (l *life) begin(ctx context.Context, first *letter, now time.Time) {
	org := l.cfg.Control.Org(first.org)
	items := l.stands(first)
	if org == nil || len(items) == 0 {
		return
	}
	if l.cfg.Mailer == nil || org.Email == "" {
		for _, it := range items {
			l.log.Warn("endpoint is "+string(it.about)+", and no mail can say so", "endpoint", it.endpoint, "org", org.ID,
				"url", it.url, "reason", it.reason, "missed", it.more)
		}
		l.settle(ctx, items, outcomeLogged)
		return
	}
	if !l.share.Ours() {
		l.letters[first.org] = first // its next owner's, if it is
		l.down = now.Add(time.Second)
		return
	}
	m := compose(org, items)
	l.sending, l.parts = first, items
	within, cancel := context.WithCancel(context.WithoutCancel(ctx))
	release := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(parting):
			cancel()
		case <-within.Done():
		}
	})
	go func() {
		err := l.cfg.Mailer.Send(within, m)
		cancel()
		release()
		l.sent <- err
	}()
}

// stands gives a letter's items that are still so.
func (l *life) stands(first *letter) (items []item) {
	for _, it := range first.list() {
		ep := l.cfg.Control.Endpoint(it.endpoint)
		if ep == nil || it.about == failing && !warnable(ep, it.epoch) {
			l.metrics.ended(it.about, outcomeMoot)
			l.log.Info("notice is moot", "about", it.about, "endpoint", it.endpoint)
			continue
		}
		if t := l.told[it.endpoint]; it.about == missed {
			if it.count, it.more = ep.Missed, ep.Missed-t.Missed; it.more <= 0 {
				continue // it was enabled
			}
		}
		items = append(items, it)
	}
	return items
}

// ended goes on after a mail was taken, or wasn't.
func (l *life) ended(ctx context.Context, err error) {
	letter, items, now := l.sending, l.parts, time.Now()
	l.sending, l.parts = nil, nil
	if err == nil {
		l.metrics.sent.Inc()
		l.lastMail[letter.org], l.downs = now, 0
		l.log.Info("mail sent", "org", letter.org, "notices", len(items))
		l.settle(ctx, items, outcomeMailed)
		return
	}
	l.metrics.failed.Inc()
	oldest := now
	for _, it := range items {
		oldest = earlier(oldest, it.noticed)
	}
	if errors.Is(err, ErrRefused) || now.Sub(oldest) > giveUp {
		l.metrics.dropped.Inc()
		l.log.Error("mail is given up", "org", letter.org, "notices", len(items), "error", err)
		l.settle(ctx, items, outcomeDropped)
		return
	}
	if !errors.Is(err, ErrDeferred) {
		l.downs++
		l.down = now.Add(min(again(l.downs)/4, 5*time.Minute))
	}
	letter.tries++
	letter.retry = now.Add(again(letter.tries))
	l.log.Warn("mail isn't sent yet", "org", letter.org, "notices", len(items), "error", err, "again", letter.retry.Sub(now))
	newer := l.letters[letter.org]
	letter.items = make(map[itemKey]item)
	for _, it := range items {
		letter.items[it.key()] = it
	}
	if newer != nil {
		for _, it := range newer.items {
			letter.add(it)
		}
	}
	l.letters[letter.org] = letter
}

// settle notes what was told by a mail, or is to be told no more.
func (l *life) settle(ctx context.Context, items []item, how outcome) {
	now := time.Now().UTC()
	for _, it := range items {
		l.metrics.ended(it.about, how)
	}
	l.tell(ctx, items, func(t *told, it *item) {
		switch it.about {
		case disabled:
			t.Mailed = later(t.Mailed, it.at)
		case missed:
			t.Missed, t.MissedAt = max(t.Missed, it.count), now
		case failing:
			t.WarnedAt = now
		}
	})
	for _, it := range items {
		if ep := l.cfg.Control.Endpoint(it.endpoint); it.about == missed && ep != nil {
			l.take(ep.Org, it.key()) // what was missed meanwhile waits for its day
			l.misses(ep)
		}
	}
}

// wind waits for the mail that is on its way, and notes how it ended. What else is
// owed is the next owner's.
func (l *life) wind(ctx context.Context) {
	defer func() {
		l.metrics.waiting.Set(0)
		l.metrics.late.Set(0)
	}()
	if l.sending == nil {
		return
	}
	err := <-l.sent
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), windUp)
	defer cancel()
	l.ended(late, err)
}
