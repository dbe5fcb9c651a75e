package pluginhost

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/crossdock/crossdock/plugins/sdk"
)

func wantClass(t *testing.T, what string, err error, want sdk.Class) {
	t.Helper()
	if err == nil || sdk.ClassOf(err) != want {
		t.Errorf("%s: %v, want class %s", what, err, want)
	}
}

func TestAPluginServesAndIsSeen(t *testing.T) {
	s := spec("good", "tame")
	s.Settings, s.Secrets, s.Memory = map[string]string{"account": "7"}, map[string]string{"password": "file:password"}, 1<<30
	r := newRig(t, nil, s)
	got := r.awaitState("good", StateRunning)
	if err := r.rate(t.Context(), "good", ""); err != nil {
		t.Error(err)
	}
	if got.Version != "1.2.3" || got.Data != `account 7, password s3cret, limit 966367638, home ""` {
		t.Errorf("it was configured as %q, version %q", got.Data, got.Version)
	}
	if got.SHA256 != programs.sum || got.PID == 0 || got.Starts != 1 || got.Kind != "carrier" || got.LastError != "" {
		t.Errorf("the status is %+v", got)
	}
	if n := r.status("good").Calls; n != 3 {
		t.Errorf("%d calls are counted, want 3", n)
	}
	if n := testutil.ToFloat64(r.cfg.Metrics.Calls.WithLabelValues("good", "OK")); n != 3 {
		t.Errorf("the metric counts %v calls, want 3", n)
	}
	_, err := r.Tax("good")
	wantClass(t, "as a tax engine", err, sdk.NotSupported)
	wantClass(t, "another", r.rate(t.Context(), "other", ""), sdk.NotSupported)
	c, err := r.Carrier("good")
	if err != nil {
		t.Fatal(err)
	}
	r.stop()
	_, err = c.Ship(t.Context(), nil)
	wantClass(t, "ship, when it was stopped", err, sdk.Unavailable)
	_, err = r.Carrier("good")
	wantClass(t, "the host was stopped", err, sdk.Unavailable)
}

func TestACrashHarmsNoOther(t *testing.T) {
	r := newRig(t, nil, spec("bad", "tame"), spec("good", "tame"))
	r.awaitState("bad", StateRunning)
	good := r.awaitState("good", StateRunning)
	release := r.hold("good")
	wantClass(t, "ship, it crashes", r.ship(t.Context(), "bad", "crash"), sdk.UnknownOutcome)
	if s := r.awaitCrash("bad", 1); s.Starts != 2 || !strings.Contains(s.LastError, "exit status 3") {
		t.Errorf("the status is %+v", s)
	}
	wantClass(t, "rate, it crashes", r.rate(t.Context(), "bad", "crash"), sdk.Unavailable)
	r.awaitCrash("bad", 2)
	if err := r.rate(t.Context(), "bad", ""); err != nil {
		t.Errorf("after two crashes: %v", err)
	}
	if err := release(); err != nil {
		t.Errorf("the other, all the time: %v", err)
	}
	if s := r.status("good"); s.PID != good.PID || s.Crashes != 0 || s.Starts != 1 {
		t.Errorf("the other did not stay: %+v", s)
	}
}

func TestACallThatHangsEnds(t *testing.T) {
	s := spec("slow", "tame")
	s.CallTimeout = 5 * time.Second
	r := newRig(t, nil, s)
	before := r.awaitState("slow", StateRunning)
	wantClass(t, "ship", r.ship(t.Context(), "slow", "hang"), sdk.UnknownOutcome)
	wantClass(t, "rate", r.rate(t.Context(), "slow", "hang"), sdk.Unavailable)
	if s := r.status("slow"); s.State != StateRunning || s.PID != before.PID || s.Failed != before.Failed+2 {
		t.Errorf("the status is %+v", s)
	}
}

func TestWhatNeverServesIsDeactivated(t *testing.T) {
	for program, want := range map[string]string{
		"mute":      "did not start within",
		"garbage":   "Unrecognized remote plugin message: hello,  [31mworld",
		"endless":   "Unrecognized remote plugin message: xxxx",
		"quitter":   "exit status 4",
		"elsewhere": "not a place of its own",
		"plain":     "handshake failed",
	} {
		t.Run(program, func(t *testing.T) {
			r := newRig(t, func(c *Config) {
				if program == "mute" {
					c.StartTimeout = 200 * time.Millisecond
				}
			}, spec("bad", program))
			e := r.awaitReport()
			if e.Plugin != "bad" || e.Crashes != 5 || !strings.Contains(e.Reason, want) || len(e.Reason) > 2*maxLine {
				t.Errorf("the exception is %+v, want %q", e, want)
			}
			if s := r.status("bad"); s.State != StateDeactivated || s.Starts != 5 || s.Crashes != 5 || s.PID != 0 {
				t.Errorf("the status is %+v", s)
			}
			wantClass(t, "rate", r.rate(t.Context(), "bad", ""), sdk.Unavailable)
			if program == "quitter" {
				if n := len(e.Words); n != 5 || !strings.Contains(e.Words[0], "tables are missing") {
					t.Errorf("its words are %q", e.Words)
				}
				if strings.Contains(r.log.String(), "plugin=another") {
					t.Error("the log takes the plugin's words for its own")
				}
			}
		})
	}
}

func TestADeactivatedPluginIsActivated(t *testing.T) {
	r := newRig(t, nil, spec("bad", "quitter"), spec("good", "tame"))
	r.awaitReport()
	if err := r.Activate("bad"); err != nil {
		t.Fatal(err)
	}
	r.awaitReport()
	if s := r.status("bad"); s.Starts != 10 {
		t.Errorf("it was started %d times, want 10", s.Starts)
	}
	good := r.awaitState("good", StateRunning)
	if err := r.Activate("good"); err != nil {
		t.Fatal(err)
	}
	if err := r.Activate("other"); err == nil {
		t.Error("a plugin that is not there can be activated")
	}
	r.want(spec("bad", "tame"), spec("good", "tame"))
	if s := r.awaitState("bad", StateRunning); s.Program != "tame" {
		t.Errorf("it runs %s", s.Program)
	}
	if s := r.status("good"); s.PID != good.PID {
		t.Errorf("activation and other changes restarted a plugin: %+v", s)
	}
}

func TestSpecsAreFollowed(t *testing.T) {
	r := newRig(t, nil, spec("one", "tame"), spec("two", "tame"))
	one, two := r.awaitState("one", StateRunning), r.awaitState("two", StateRunning)
	release := r.hold("one")
	changed := spec("one", "tame")
	changed.Settings = map[string]string{"account": "8"}
	r.want(changed, spec("two", "tame"))
	r.awaitState("one", StateStopping)
	wantClass(t, "ship, while it is stopped", r.ship(t.Context(), "one", ""), sdk.Unavailable)
	if err := release(); err != nil {
		t.Errorf("the call that was in flight: %v", err)
	}
	await(t, "one runs again", func() bool {
		s := r.status("one")
		return s.State == StateRunning && strings.Contains(s.Data, "account 8")
	})
	if s := r.status("one"); s.PID == one.PID || s.Starts != 2 || s.Crashes != 0 {
		t.Errorf("the status is %+v", s)
	}
	if s := r.status("two"); s.PID != two.PID {
		t.Errorf("the other was restarted: %+v", s)
	}
	r.want(spec("three", "tame-2"))
	r.awaitState("three", StateRunning)
	await(t, "the first version is removed", func() bool {
		_, err := os.Stat(r.store.path(programs.sum))
		return os.IsNotExist(err)
	})
	if got := r.Status(); len(got) != 1 {
		t.Errorf("there is still %+v", got)
	}
}

func TestOnlyWhatPolicyNamesIsRun(t *testing.T) {
	wrong := spec("wrong", "tame-2")
	wrong.SHA256 = programs.sum[1:] + "0"
	odd := spec("odd", "../tame")
	refused := spec("refused", "tame")
	refused.Settings = map[string]string{"account": "none"}
	secret := spec("secret", "tame")
	secret.Secrets = map[string]string{"password": "file:other"}
	missing := spec("missing", "nothing")
	missing.SHA256 = strings.Repeat("0", 64) // what was there once is kept, and needs no file
	r := newRig(t, nil, wrong, odd, refused, secret, missing)
	reasons := map[string]string{}
	for range 5 {
		e := r.awaitReport()
		reasons[e.Plugin] = e.Reason
	}
	for name, want := range map[string][]string{
		"wrong":   {filepath.Join(programs.dir, "tame-2"), "wanted " + wrong.SHA256, "found " + programs.second},
		"odd":     {"not the name of a file"},
		"refused": {"validation: account: there is no such account"},
		"missing": {filepath.Join(programs.dir, "nothing"), "put the plugin's program there"},
		"secret":  {"file:other: no such secret"},
	} {
		for _, part := range want {
			if !strings.Contains(reasons[name], part) {
				t.Errorf("%s: the reason is %q, want %q in it", name, reasons[name], part)
			}
		}
	}
	if s := r.status("odd"); s.Starts != 0 || s.LastError == "" {
		t.Errorf("the status of what cannot run is %+v", s)
	}
	if s := r.status("wrong"); s.Starts != 0 {
		t.Errorf("what is not named was started: %+v", s)
	}
}

func TestACopyThatWasChangedIsNotRun(t *testing.T) {
	r := newRig(t, nil, spec("good", "tame"))
	r.awaitState("good", StateRunning)
	kept := r.store.path(programs.sum)
	if info, err := os.Stat(kept); err != nil || info.Mode().Perm()&0o222 != 0 {
		t.Fatalf("the copy can be written to: %v, %v", info, err)
	}
	if err := os.Remove(kept); err != nil { // it runs, so that it cannot be written to
		t.Fatal(err)
	}
	if err := os.WriteFile(kept, []byte("#!/bin/sh\nexit 7\n"), 0o500); err != nil {
		t.Fatal(err)
	}
	_ = r.rate(t.Context(), "good", "crash")
	r.awaitCrash("good", 1)
	if !strings.Contains(r.log.String(), "it is copied again") {
		t.Error("nobody is told that the copy was changed")
	}
}

func TestFloodsAreDropped(t *testing.T) {
	r := newRig(t, nil, spec("loud", "tame"), spec("good", "tame"))
	loud, good := r.awaitState("loud", StateRunning), r.awaitState("good", StateRunning)
	flood := make(chan error, 1)
	go func() { flood <- r.rate(t.Context(), "loud", "flood") }()
	if err := r.rate(t.Context(), "good", ""); err != nil {
		t.Errorf("the other, at the same time: %v", err)
	}
	if err := <-flood; err != nil {
		t.Error(err)
	}
	if err := r.rate(t.Context(), "loud", "long"); err != nil {
		t.Error(err)
	}
	await(t, "lines are dropped", func() bool { return r.status("loud").Dropped > 1000 })
	await(t, "the long line is cut", func() bool {
		for _, line := range r.plugin("loud").words.tail() {
			if strings.HasPrefix(line, "long long") {
				return len(line) < 2*maxLine
			}
		}
		return false
	})
	if n := len(r.log.String()); n > 1<<20 {
		t.Errorf("the log has %d bytes", n)
	}
	for name, pid := range map[string]int{"loud": loud.PID, "good": good.PID} {
		if s := r.status(name); s.PID != pid || s.Crashes != 0 {
			t.Errorf("%s did not stay: %+v", name, s)
		}
	}
}

// After a start, and after a revision, policy has plugins for a moment that the host has not
// begun with: whoever calls one then should call again, and not give up.
func TestAPluginThatIsNotBegunIsUnavailable(t *testing.T) {
	cfg := testConfig("host")
	cfg.Specs = func() []Spec { return []Spec{spec("zone", "tame")} }
	h, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	_, err = h.Carrier("zone")
	wantClass(t, "zone", err, sdk.Unavailable)
	_, err = h.Carrier("other")
	wantClass(t, "other", err, sdk.NotSupported)
}

func TestConfigIsChecked(t *testing.T) {
	for what, spoil := range map[string]func(*Config){
		"no directory":   func(c *Config) { c.Dir = "" },
		"a long one":     func(c *Config) { c.Dir = "/" + strings.Repeat("d", 100) },
		"no specs":       func(c *Config) { c.Specs = nil },
		"no time":        func(c *Config) { c.HealthEvery = 0 },
		"no memory":      func(c *Config) { c.Memory = 0 },
		"nobody to tell": func(c *Config) { c.Log = nil },
	} {
		cfg := testConfig("host")
		cfg.Specs = func() []Spec { return nil }
		if _, err := New(cfg); err != nil {
			t.Fatal(err)
		}
		spoil(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s is taken", what)
		}
	}
}

func TestRareCrashesDoNotDeactivate(t *testing.T) {
	r := newRig(t, func(c *Config) { c.CrashWindow = 1 }, spec("bad", "quitter"))
	await(t, "it has crashed many times", func() bool { return r.status("bad").Crashes > uint64(r.cfg.CrashLimit) })
	if s := r.status("bad"); s.State == StateDeactivated || len(r.reports) > 0 {
		t.Errorf("it was given up: %+v", s)
	}
}

// Through the broker a plugin could make its host connect and listen.
func TestPluginsHaveNoBroker(t *testing.T) {
	r := newRig(t, nil, spec("good", "tame"))
	r.awaitState("good", StateRunning)
	p := r.plugin("good")
	p.mu.Lock()
	conn := p.life.conn
	p.mu.Unlock()
	_, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, ofBroker+"StartStream")
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("the broker answers %v", err)
	}
}
