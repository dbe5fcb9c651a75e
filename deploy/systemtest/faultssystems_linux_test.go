package systemtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// systemFaults are those of the systems, of what is sent to them, and of what the people of
// the control plane do meanwhile.
var systemFaults = []fault{
	{name: "trouble-at-system", do: (*trouble).misbehave},
	{name: "poison", do: (*trouble).poison},
	{name: "refused-events", do: (*trouble).offerNonsense},
	{name: "replace-authority", do: (*trouble).replaceAuthority, needs: []need{needHaste}, slow: true},
	{name: "renew-certificates", do: (*trouble).awaitRenewal, needs: []need{needHaste}, slow: true},
}

// misbehave has a system hang, fail, ask for time and lose its answers for some seconds.
func (x *trouble) misbehave() {
	y, r := x.systems[x.r.IntN(len(x.systems))], x.seeded()
	did := 0
	y.set(func(attempt) reply { // while y.mu is held
		did++
		switch n := r.IntN(100); {
		case n < 3:
			return reply{hang: true}
		case n < 20:
			return reply{status: http.StatusBadGateway, body: "upstream is away"}
		case n < 25:
			return reply{status: http.StatusTooManyRequests, header: map[string]string{"Retry-After": fmt.Sprint(r.IntN(2))}}
		case n < 35:
			x.untold.Add(1)
			return reply{silence: true}
		}
		did--
		return reply{}
	})
	before := y.count()
	until(x.t, y.name+" gets something in its trouble", func() string {
		if y.count() == before {
			return "nothing"
		}
		return ""
	})
	x.wait(time.Second, 4*time.Second)
	y.set(nil)
	y.mu.Lock()
	defer y.mu.Unlock()
	x.c.did[didMisbehave] += did
}

// poison has a system refuse some events for good. Each becomes a dead letter, which a
// person has it take in the end; what is behind it in its key waits.
func (x *trouble) poison() {
	y, r := x.systems[x.r.IntN(len(x.systems))], x.seeded()
	refused := map[string]bool{}
	y.set(func(a attempt) reply { // while y.mu is held
		if refused[a.id] || r.IntN(100) < 5 {
			refused[a.id] = true
			return reply{status: http.StatusUnprocessableEntity, body: `{"error":"customer 42 is unknown"}`}
		}
		return reply{}
	})
	until(x.t, "an event is refused", func() string {
		y.mu.Lock()
		defer y.mu.Unlock()
		if len(refused) == 0 {
			return "none"
		}
		return ""
	})
	x.wait(0, 2*time.Second)
	y.set(nil)
	letters := map[string]bool{}
	until(x.t, "all dead letters are replayed", func() string {
		for _, l := range x.plane.deadLetters("system=" + y.name) {
			letters[l.EventID] = true
			if l.State == "open" {
				x.plane.replay(l.ID)
			}
		}
		open := 0
		for _, l := range x.plane.deadLetters("system=" + y.name) {
			if l.State != "delivered" {
				open++
			}
		}
		if open > 0 || len(letters) < len(refused) {
			return fmt.Sprintf("%d of %d dead letters are known, %d not delivered", len(letters), len(refused), open)
		}
		return ""
	})
	x.c.did[didPoison] += len(refused)
}

// offerNonsense offers what no agent may accept.
func (x *trouble) offerNonsense() {
	for i := range 20 {
		s := x.shops[siteNames[i%2]]
		data, kind := `{"number":1}`, orderCaptured // no orderId
		if x.chance(50) {
			data, kind = `{"orderId":"k0","number":1}`, "order.unheard-of.v1"
		}
		text, err := json.Marshal(map[string]any{"specversion": "1.0", "id": fmt.Sprintf("nonsense-%d-%d", x.c.did[didRefuse], i), "source": s.source(),
			"type": kind, "data": json.RawMessage(data)})
		if err != nil {
			x.t.Fatal(err)
		}
		status, answer, err := s.send("application/cloudevents+json", text)
		if err != nil || status/100 != 4 {
			x.t.Errorf("nonsense is answered with %d %s, %v", status, answer, err)
		}
	}
	x.c.did[didRefuse] += 20
}

// replaceAuthority goes all steps of it; the agents renew their certificates in between.
func (x *trouble) replaceAuthority() {
	old := x.plane.authorities()[0]
	var next authority
	x.plane.must("POST", "/cluster/authorities", nil, &next)
	x.more(20)
	x.plane.must("POST", "/cluster/authorities/"+next.ID+"/activate", nil, nil)
	x.plane.awaitRenewed(old.ID, 0)
	x.plane.must("DELETE", "/cluster/authorities/"+old.ID, nil, nil)
	x.c.did[didReplace]++
}

// awaitRenewal waits until an agent has another certificate.
func (x *trouble) awaitRenewal() {
	before := x.renewals()
	until(x.t, "an agent renews its certificate", func() string {
		if n := x.renewals(); n <= before {
			return fmt.Sprint(n)
		}
		return ""
	})
}

// renewals counts those of all agents so far.
func (x *trouble) renewals() (n int) {
	for _, s := range x.sites {
		n += strings.Count(read(x.t, s.log+".child"), `msg="certificate renewed`)
	}
	return n
}
