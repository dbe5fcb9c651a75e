package agent

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crossdock/crossdock/agent/doctor"
)

func TestOneExaminationAtATime(t *testing.T) {
	d := newDiagnosis()
	var begun atomic.Int32
	goOn := make(chan struct{})
	entered := make(chan struct{}, 1)
	examine := func(context.Context) doctor.Report {
		begun.Add(1)
		entered <- struct{}{}
		<-goOn
		return doctor.NewReport("1", time.Now(), []doctor.Finding{{ID: "clock", Level: doctor.OK, Seen: "right"}})
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if r, err := d.report(t.Context(), examine); err != nil || len(r.Findings) != 1 {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
	<-entered
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.report(gone, examine); !errors.Is(err, context.Canceled) {
		t.Errorf("one who does not wait: %v", err)
	}
	close(goOn)
	all.Wait()
	if begun.Load() != 1 {
		t.Errorf("%d examinations for those who asked at once", begun.Load())
	}
}

// What was found while the asker went away is not given to the next.
func TestABrokenExaminationIsNotKept(t *testing.T) {
	d := newDiagnosis()
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := d.report(ctx, func(context.Context) doctor.Report {
		cancel()
		return doctor.NewReport("1", time.Now(), []doctor.Finding{{ID: "link-tcp", Level: doctor.Fail, Seen: "canceled", Todo: "x"}})
	}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	r, err := d.report(t.Context(), func(context.Context) doctor.Report { return doctor.NewReport("1", time.Now(), nil) })
	if err != nil || len(r.Findings) != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}
