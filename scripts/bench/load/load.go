// Package load is who posts: clients that wait for each answer before they go on, and a
// schedule that waits for nothing.
//
// It refuses to know who answers. Its invariant: a latency counts from the moment at which
// the event was due, so that a stall is felt by all that were due in it.
package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crossdock/crossdock/scripts/bench/material"
)

// Outstanding is how many requests of a schedule may wait for their answers at once. Those
// beyond wait their turn, and their latency with them.
const Outstanding = 512

// again is the pause after an answer that asks to send the same again.
const again = 5 * time.Millisecond

// Poster posts orders to one intake.
type Poster struct {
	url    string
	token  string
	orders *material.Orders
	client *http.Client
}

// NewPoster makes a poster for an intake's address.
func NewPoster(address string, orders *material.Orders) *Poster {
	return &Poster{url: "http://" + address + "/v1/events", token: material.Token, orders: orders, client: &http.Client{
		Timeout: time.Minute, Transport: &http.Transport{MaxIdleConns: Outstanding, MaxIdleConnsPerHost: Outstanding}}}
}

// As is a poster at the same intake for another system.
func (p *Poster) As(token string) *Poster {
	other := *p
	other.token = token
	return &other
}

// Close lets the connections go.
func (p *Poster) Close() { p.client.CloseIdleConnections() }

// Post sends events from a serial number on, one alone or several as a batch, until they
// are accepted. An intake that says that it has not judged gets the same again.
func (p *Poster) Post(ctx context.Context, first, count int) error {
	kind, body := "application/cloudevents+json", []byte(nil)
	if count == 1 {
		body = p.orders.Append(nil, first)
	} else {
		kind = "application/cloudevents-batch+json"
		body = append(make([]byte, 0, count*1100), '[')
		for i := range count {
			if i > 0 {
				body = append(body, ',')
			}
			body = p.orders.Append(body, first+i)
		}
		body = append(body, ']')
	}
	for {
		status, _, text, err := p.send(ctx, kind, body)
		switch {
		case err != nil:
			return err
		case status == http.StatusAccepted:
			return nil
		case status != http.StatusServiceUnavailable:
			return fmt.Errorf("event %d: status %d: %s", first, status, text)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("event %d: %s: %w", first, text, context.Cause(ctx))
		case <-time.After(again):
		}
	}
}

// Try sends one event once, and gives the answer with what it says of when to come again.
func (p *Poster) Try(ctx context.Context, serial int) (status int, retryAfter string, text []byte, err error) {
	return p.send(ctx, "application/cloudevents+json", p.orders.Append(nil, serial))
}

func (p *Poster) send(ctx context.Context, kind string, body []byte) (status int, retryAfter string, text []byte, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, bytes.NewReader(body))
	if err != nil {
		return 0, "", nil, err
	}
	request.Header.Set("Content-Type", kind)
	request.Header.Set("Authorization", "Bearer "+p.token)
	answer, err := p.client.Do(request)
	if err != nil {
		return 0, "", nil, err
	}
	defer answer.Body.Close()
	text, err = io.ReadAll(answer.Body)
	return answer.StatusCode, answer.Header.Get("Retry-After"), text, err
}

// All posts count events from first on by so many clients, each with batch events a
// request, as fast as they are answered.
func (p *Poster) All(ctx context.Context, clients, batch, first, count int) error {
	var next atomic.Int64
	return each(ctx, clients, func(ctx context.Context) (more bool, err error) {
		at := int(next.Add(int64(batch))) - batch
		if at >= count {
			return false, nil
		}
		return true, p.Post(ctx, first+at, min(batch, count-at))
	})
}

// For posts for a while and says how many events were accepted in it.
func (p *Poster) For(ctx context.Context, clients, batch, first int, lasts time.Duration) (accepted int, took time.Duration, err error) {
	requests, took, err := For(ctx, clients, lasts, func(ctx context.Context, number int) error {
		return p.Post(ctx, first+number*batch, batch)
	})
	return requests * batch, took, err
}

// For has so many clients ask one thing after the other for a while, the number of each from 0
// on, and says how many were answered in it.
func For(ctx context.Context, clients int, lasts time.Duration, ask func(ctx context.Context, number int) error) (answered int, took time.Duration, err error) {
	var next, done atomic.Int64
	begun := time.Now()
	err = each(ctx, clients, func(ctx context.Context) (bool, error) {
		if time.Since(begun) >= lasts {
			return false, nil
		}
		err := ask(ctx, int(next.Add(1))-1)
		if err == nil {
			done.Add(1)
		}
		return true, err
	})
	return int(done.Load()), time.Since(begun), err
}

func each(ctx context.Context, clients int, one func(context.Context) (more bool, err error)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var group sync.WaitGroup
	for range clients {
		group.Go(func() {
			for {
				more, err := one(ctx)
				if err != nil {
					cancel(err)
				}
				if err != nil || !more {
					return
				}
			}
		})
	}
	group.Wait()
	return context.Cause(ctx)
}

// Paced is what came of a schedule.
type Paced struct {
	First   int             // serial number
	Due     []time.Time     // when each event was due
	Answers []time.Duration // from then to the answer
}

// Paced posts single events at a rate until stop ends, in an open loop: an event is sent
// when it is due, whatever became of those before it.
func (p *Poster) Paced(ctx, stop context.Context, first int, rate float64) (*Paced, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	out := &Paced{First: first}
	var mu sync.Mutex // guards out.Answers
	var group sync.WaitGroup
	type due struct {
		serial int
		at     time.Time
	}
	queue := make(chan due, 1<<16)
	for range Outstanding {
		group.Go(func() {
			for d := range queue {
				if err := p.Post(ctx, d.serial, 1); err != nil {
					cancel(err)
					continue
				}
				took := time.Since(d.at)
				mu.Lock()
				out.Answers = append(out.Answers, took)
				mu.Unlock()
			}
		})
	}
	begun := time.Now()
	for i := 0; stop.Err() == nil && ctx.Err() == nil; i++ {
		at := begun.Add(time.Duration(float64(i) / rate * float64(time.Second)))
		select {
		case <-time.After(time.Until(at)):
		case <-stop.Done():
			continue
		}
		select {
		case queue <- due{first + i, at}:
			out.Due = append(out.Due, at)
		default:
			cancel(errors.New("the intake stands still: 65536 events are due and not answered"))
		}
	}
	close(queue)
	group.Wait()
	return out, context.Cause(ctx)
}

// Quantile of some durations, which it sorts; q from 0 to 1. It is the smallest of them that
// at least the part q does not pass.
func Quantile(d []time.Duration, q float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	at := int(q*float64(len(d))+0.9999999) - 1
	return d[min(max(at, 0), len(d)-1)]
}
