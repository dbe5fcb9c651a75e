package load

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crossdock/crossdock/scripts/bench/material"
)

func TestQuantile(t *testing.T) {
	var d []time.Duration
	for i := 1000; i > 0; i-- {
		d = append(d, time.Duration(i))
	}
	for _, c := range []struct {
		q    float64
		want time.Duration
	}{{0.5, 500}, {0.99, 990}, {0.999, 999}, {1, 1000}, {0, 1}} {
		if got := Quantile(d, c.q); got != c.want {
			t.Errorf("quantile %v is %d, want %d", c.q, got, c.want)
		}
	}
	if got := Quantile([]time.Duration{7}, 0.5); got != 7 {
		t.Errorf("of one value: %d", got)
	}
}

// intake answers 503 to the first request, and keeps what it took.
type intake struct {
	mu    sync.Mutex
	taken map[int]int
	asked int
	stall chan struct{} // nil: answers at once
}

func (f *intake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f.stall != nil {
		<-f.stall
	}
	body := make([]byte, r.ContentLength)
	for n := 0; n < len(body); {
		m, err := r.Body.Read(body[n:])
		if n += m; err != nil {
			break
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.asked++; f.asked == 1 {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	for _, one := range strings.SplitAfter(string(body), "}}")[:strings.Count(string(body), "specversion")] {
		serial, err := material.Serial([]byte(one))
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		f.taken[serial]++
	}
	w.WriteHeader(http.StatusAccepted)
}

func TestEveryEventIsPostedOnceInBatchesAndAlone(t *testing.T) {
	for _, batch := range []int{1, 7} {
		fake := &intake{taken: map[int]int{}}
		server := httptest.NewServer(fake)
		p := NewPoster(strings.TrimPrefix(server.URL, "http://"), material.NewOrders(1))
		if err := p.All(t.Context(), 3, batch, 10, 50); err != nil {
			t.Fatal(err)
		}
		for i := 10; i < 60; i++ {
			if fake.taken[i] != 1 {
				t.Errorf("batches of %d: event %d was accepted %d times", batch, i, fake.taken[i])
			}
		}
		if len(fake.taken) != 50 {
			t.Errorf("batches of %d: %d events, want 50", batch, len(fake.taken))
		}
		server.Close()
	}
}

func TestLatencyCountsFromWhenTheEventWasDue(t *testing.T) {
	fake := &intake{taken: map[int]int{}, stall: make(chan struct{})}
	server := httptest.NewServer(fake)
	defer server.Close()
	p := NewPoster(strings.TrimPrefix(server.URL, "http://"), material.NewOrders(1))
	stop, cancel := context.WithCancel(t.Context())
	defer cancel()
	var released time.Time
	time.AfterFunc(200*time.Millisecond, func() { released = time.Now(); close(fake.stall); cancel() })
	got, err := p.Paced(t.Context(), stop, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Answers) != len(got.Due) || len(got.Due) == 0 {
		t.Fatalf("%d answers of %d events that were due", len(got.Answers), len(got.Due))
	}
	for i := range got.Due[1:] {
		if d := got.Due[i+1].Sub(got.Due[i]); d != time.Millisecond {
			t.Fatalf("event %d was due %s after the one before", i+1, d)
		}
	}
	// Nobody could answer before the stall was over.
	if most, least := Quantile(got.Answers, 1), released.Sub(got.Due[0]); most < least {
		t.Errorf("the longest latency is %s; the first event waited for %s", most, least)
	}
}

func TestTryTellsWhatWasAnswered(t *testing.T) {
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked++; r.Header.Get("Authorization") != "Bearer other" {
			t.Errorf("it shows %q", r.Header.Get("Authorization"))
		}
		w.Header().Set("Retry-After", "3")
		w.WriteHeader(http.StatusTooManyRequests)
	}))
	defer server.Close()
	p := NewPoster(strings.TrimPrefix(server.URL, "http://"), material.NewOrders(1)).As("other")
	defer p.Close()
	status, after, _, err := p.Try(t.Context(), 1)
	if status != http.StatusTooManyRequests || after != "3" || err != nil || asked != 1 {
		t.Errorf("%d, %q, %v, asked %d times; want 429, 3, and once", status, after, err, asked)
	}
}
