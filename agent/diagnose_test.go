package agent

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
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
			if r, err := d.report(t.Context(), false, examine); err != nil || len(r.Findings) != 1 {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
	<-entered
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.report(gone, false, examine); !errors.Is(err, context.Canceled) {
		t.Errorf("one who does not wait: %v", err)
	}
	close(goOn)
	all.Wait()
	if begun.Load() != 1 {
		t.Errorf("%d examinations for those who asked at once", begun.Load())
	}
}

// In an outage checks wait until nobody waits for them any more; what was found is told, and
// that it is not all.
func TestAnExaminationThatTakesTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDiagnosis()
		r, err := d.report(t.Context(), false, func(ctx context.Context) doctor.Report {
			<-ctx.Done()
			r := doctor.NewReport("1", time.Now(), []doctor.Finding{{ID: "link-tcp", Level: doctor.OK, Seen: "found"}})
			r.Agent, r.Site = "a", "s"
			return r
		})
		if err != nil || r.Agent != "a" || r.Site != "s" || r.Worst != doctor.Warn || len(r.Findings) != 2 || r.Findings[0].Seen != "found" ||
			!strings.Contains(r.Findings[1].Seen, "not everything was looked at") {
			t.Errorf("%+v, %v", r, err)
		}
		r, err = d.report(t.Context(), false, func(context.Context) doctor.Report { return doctor.NewReport("1", time.Now(), nil) })
		if err != nil || len(r.Findings) != 0 {
			t.Errorf("the next got %+v, %v", r, err)
		}
	})
}

// The addresses are looked at side by side: here the proxy answers when it was asked for all.
func TestAddressesAreLookedAtAtOnce(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	addresses := []string{"192.0.2.1:7443", "192.0.2.2:7443", "192.0.2.3:7443"}
	go func() {
		var asked []net.Conn
		for range addresses {
			conn, err := l.Accept()
			if err != nil {
				break
			}
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
				t.Error(err)
			}
			asked = append(asked, conn)
		}
		for _, conn := range asked {
			_, _ = conn.Write([]byte("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")) // who does not get it says so
			conn.Close()
		}
	}()
	cfg := DefaultConfig()
	cfg.ControlPlane.Addresses, cfg.ControlPlane.Proxy = addresses, "http://"+l.Addr().String()
	found := examineWay(t.Context(), cfg, nil, nil)
	for _, address := range addresses {
		if !slices.ContainsFunc(found, func(f doctor.Finding) bool {
			return strings.Contains(f.Seen, "answered 403 Forbidden to CONNECT "+address)
		}) {
			t.Errorf("%s: %+v", address, found)
		}
	}
}

// What was found while the asker went away is not given to the next.
func TestABrokenExaminationIsNotKept(t *testing.T) {
	d := newDiagnosis()
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := d.report(ctx, false, func(context.Context) doctor.Report {
		cancel()
		return doctor.NewReport("1", time.Now(), []doctor.Finding{{ID: "link-tcp", Level: doctor.Fail, Seen: "canceled", Todo: "x"}})
	}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	r, err := d.report(t.Context(), false, func(context.Context) doctor.Report { return doctor.NewReport("1", time.Now(), nil) })
	if err != nil || len(r.Findings) != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

// Who asks afresh gets nothing from before, and shares with those who asked before it was begun.
func TestAFreshLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, begun := newDiagnosis(), 0
		look := func(fresh bool) {
			if _, err := d.report(t.Context(), fresh, func(context.Context) doctor.Report {
				begun++
				time.Sleep(time.Second)
				return doctor.NewReport("1", time.Now(), nil)
			}); err != nil {
				t.Error(err)
			}
		}
		look(false)
		look(false)
		if begun != 1 {
			t.Errorf("%d examinations, want one that was given again", begun)
		}
		d.turn <- struct{}{} // all ask before the next is begun
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() { look(true) })
		}
		synctest.Wait()
		time.Sleep(time.Millisecond)
		<-d.turn
		all.Wait()
		if begun != 2 {
			t.Errorf("%d examinations, want one more for all three", begun)
		}
		if look(true); begun != 3 {
			t.Errorf("%d examinations: the last was not fresh", begun)
		}
	})
}
