package systemtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/agent"
)

// printed is every number that was ever given to a system, and for what.
type printed struct {
	t  *testing.T
	by map[string]string
}

func newPrinted(t *testing.T) *printed { return &printed{t: t, by: map[string]string{}} }

// numbersAnswer is what intake answers.
type numbersAnswer struct {
	Code    string
	Detail  string
	Numbers []struct {
		Serial uint64
		Text   string
	}
}

func (s *site) askNumbers(reference string, count int) (status int, answer numbersAnswer) {
	s.t.Helper()
	body, err := json.Marshal(map[string]any{"reference": reference, "count": count})
	if err != nil {
		s.t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, "http://"+s.cfg.Intake.Listen+"/v1/numbers/pallets", bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+shopToken)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		s.t.Fatal(err)
	}
	return response.StatusCode, answer
}

// print takes numbers at a site; none may have been taken for anything else.
func (p *printed) print(s *site, reference string, count int) {
	p.t.Helper()
	status, answer := s.askNumbers(reference, count)
	if status != http.StatusOK || len(answer.Numbers) != count {
		p.t.Fatalf("%s of %s: %d %+v", reference, s.name, status, answer)
	}
	for _, n := range answer.Numbers {
		what := reference + " of " + s.name
		if before, twice := p.by[n.Text]; twice && before != what {
			p.t.Fatalf("%s is printed for %s, and was for %s", n.Text, what, before)
		}
		p.by[n.Text] = what
	}
}

func (s *site) awaitNumbers(least uint64) {
	s.t.Helper()
	s.awaitStatus(fmt.Sprintf("holds %d numbers", least), func(st agent.Status) string {
		if len(st.Numbers) != 1 || st.Numbers[0].Left < least {
			return fmt.Sprintf("%+v", st.Numbers)
		}
		return ""
	})
}

// vouch says that a site's data is no copy.
func (s *site) vouch() (status int) {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, "http://"+s.cfg.Ops.Listen+"/v1/numbers/vouch", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(read(s.t, filepath.Join(s.cfg.Data, "ops.token"))))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	response.Body.Close()
	return response.StatusCode
}

// withRange is a policy for sites that take from one range.
func withRange(sites ...string) map[string]string {
	bundle := policyFor(sites, nil)
	list, err := json.Marshal(sites)
	if err != nil {
		panic(err) // strings always marshal
	}
	bundle["ranges.yaml"] = fmt.Sprintf(`apiVersion: crossdock/v1
kind: NumberRange
metadata: {name: pallets}
spec: {owner: logistics, format: sscc, companyPrefix: "0614141", extension: 3, from: 1, to: 999999999, sites: %s, block: 20, low: 10}
`, list)
	return bundle
}

// rangeView is a number range as the control plane shows it.
type rangeView struct {
	Next   uint64
	Leases []struct {
		Agent     string
		Leased    uint64
		Left      uint64
		Used      uint64
		Forfeited uint64
		Reported  time.Time
	}
}

func (p *plane) pallets() rangeView {
	p.t.Helper()
	var list struct{ Items []rangeView }
	p.must("GET", "/ranges", nil, &list)
	if len(list.Items) != 1 {
		p.t.Fatalf("ranges %+v", list)
	}
	return list.Items[0]
}

func numbersSite(t *testing.T, p *plane, name string) *site {
	s := newSite(t, p, name)
	s.cfg.Tuning.LeaseRetry, s.cfg.Tuning.NumbersGrace = 50*time.Millisecond, 50*time.Millisecond
	return s
}

// TestNumbersWhileTheLineIsCut has a site print while it is cut off: it restarts, runs out,
// tells that, and goes on when the line is back. Put back to an image of its disk it prints
// nothing that it had printed.
func TestNumbersWhileTheLineIsCut(t *testing.T) {
	p := startPlane(t, nil)
	p.approve(withRange("eu", "hq"))
	eu, hq, out := numbersSite(t, p, "eu"), numbersSite(t, p, "hq"), newPrinted(t)
	eu.start()
	hq.start()
	eu.awaitNumbers(20)
	hq.awaitNumbers(20)
	out.print(eu, "first", 3)
	out.print(hq, "first", 3)
	eu.stop()
	image := eu.image()
	eu.start()
	eu.line.Cut()
	out.print(eu, "first", 3)                          // the same again
	if got := eu.vouch(); got != http.StatusConflict { // nothing is in doubt
		t.Errorf("vouched: %d", got)
	}
	for i := range 8 {
		out.print(eu, fmt.Sprint("dark ", i), 1)
	}
	eu.stop()
	eu.start()
	out.print(eu, "dark, restarted", 9)
	if status, answer := eu.askNumbers("too many", 1); status != http.StatusServiceUnavailable || answer.Code != "no-numbers" {
		t.Errorf("with none left: %d %+v", status, answer)
	}
	eu.awaitStatus("has something to tell", func(st agent.Status) string {
		if st.Queue.Outgoing == 0 || st.Numbers[0].Left != 0 {
			return fmt.Sprintf("%+v", st)
		}
		return ""
	})
	eu.line.Restore()
	p.awaitException("eu", "numbers-used-up", "pallets", "no session")
	eu.awaitNumbers(10)
	out.print(eu, "light", 5)
	until(t, "the control plane shows what eu has", func() string {
		for _, l := range p.pallets().Leases {
			if l.Agent == "eu" && l.Leased == 40 && l.Left == 15 && l.Used == 25 {
				return ""
			}
		}
		return fmt.Sprintf("%+v", p.pallets())
	})

	eu.stop()
	eu.putBack(image)
	eu.start()
	p.awaitException("eu", "old-copy")
	eu.awaitNumbers(20)
	out.print(eu, "after the image", 5)
	if got := p.pallets(); got.Next != 81 {
		t.Errorf("after eu, hq, eu twice: %+v", got)
	}
}
