package load

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestCallerShowsItsTokenAndKey(t *testing.T) {
	var got []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		_, keyed := r.Header["Idempotency-Key"]
		got = append(got, fmt.Sprint(r.Method, " ", r.URL.Path, " ", r.Header.Get("Authorization"), " ", keyed, " ", r.Header.Get("Idempotency-Key"), " ", string(body)))
		if keyed {
			w.WriteHeader(http.StatusAccepted) // it waits
		}
	}))
	defer server.Close()
	c := NewCaller(strings.TrimPrefix(server.URL, "http://"), "own")
	defer c.Close()
	if err := c.Call(t.Context(), "carriers/zone/rate", "", []byte("a")); err != nil {
		t.Error(err)
	}
	if err := c.Call(t.Context(), "tax/finalise", "k-1", []byte("b")); err == nil || !strings.Contains(err.Error(), "202") {
		t.Errorf("a call that waits was taken for one that is done: %v", err)
	}
	want := []string{"POST /v1/carriers/zone/rate Bearer own false  a", "POST /v1/tax/finalise Bearer own true k-1 b"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

func TestForGivesEachNumberOnce(t *testing.T) {
	var mu sync.Mutex
	seen := map[int]int{}
	answered, took, err := For(t.Context(), 4, 50*time.Millisecond, func(_ context.Context, number int) error {
		mu.Lock()
		defer mu.Unlock()
		seen[number]++
		return nil
	})
	if err != nil || answered == 0 || answered != len(seen) || took < 50*time.Millisecond {
		t.Fatalf("%d answered in %s of %d numbers, %v", answered, took, len(seen), err)
	}
	for number, times := range seen {
		if times != 1 || number >= len(seen) {
			t.Errorf("number %d of %d came %d times", number, len(seen), times)
		}
	}
	_, _, err = For(t.Context(), 2, time.Minute, func(context.Context, int) error { return io.ErrUnexpectedEOF })
	if err == nil {
		t.Error("it goes on after a fault")
	}
}
