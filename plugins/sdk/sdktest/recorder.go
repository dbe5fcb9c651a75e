package sdktest

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
)

// recorder is a test whose failures are kept instead of failing anything: with it a suite is
// tested against what must not pass.
type recorder struct {
	testing.TB
	mu       sync.Mutex // guards failures
	failures []string
}

// Record runs a check to its end and gives the failures that it reported.
func Record(t testing.TB, check func(testing.TB)) []string {
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		check(r)
	}()
	<-done
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failures
}

func (r *recorder) keep(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, text)
}

// Error keeps a failure.
func (r *recorder) Error(args ...any) { r.keep(fmt.Sprintln(args...)) }

// Errorf keeps a failure.
func (r *recorder) Errorf(format string, args ...any) { r.keep(fmt.Sprintf(format, args...)) }

// Fatal keeps a failure and ends the check.
func (r *recorder) Fatal(args ...any) { r.Error(args...); runtime.Goexit() }

// Fatalf keeps a failure and ends the check.
func (r *recorder) Fatalf(format string, args ...any) { r.Errorf(format, args...); runtime.Goexit() }

// Failed tells whether there is a failure.
func (r *recorder) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.failures) > 0
}
