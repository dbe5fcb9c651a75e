package systemtest

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/crossdock/crossdock/deploy/systemtest/history"
)

// request is one call of the API that is noted as an operation.
type request struct {
	token        string
	method, path string
	in           any
	nodes        []doors // asked one after the other, under one key, until one decides
}

// operate makes a call and notes what became of it. fill adds what the answer to one that
// was done says; a read is noted only if it was done and current.
func (w *world) operate(o history.Operation, q request, fill func(o *history.Operation, answer []byte) error) (outcome history.Outcome) {
	if len(q.nodes) == 0 {
		time.Sleep(look) // all are down: nothing can be asked
		return history.Failed
	}
	var body []byte
	if q.in != nil {
		text, err := json.Marshal(q.in)
		if err != nil {
			panic(err) // what tests send always marshals
		}
		body = text
	}
	key := rand.Text()
	o.Invoked, o.Outcome = w.ops.Since(), history.Failed
	if len(q.nodes) == 1 {
		o.Node = q.nodes[0].API
	}
	for _, d := range q.nodes {
		status, text, stale, err := w.plane.askAs(q.token, d.API, q.method, q.path, key, body)
		outcome := outcomeOf(status, err)
		if outcome == history.Refused && o.Outcome == history.Unknown && o.Verb == history.Create {
			break // a secret is shown once only: this may be the repeat of what was done
		}
		if outcome == history.Done && stale {
			outcome = history.Failed
		}
		if outcome == history.Failed && o.Outcome == history.Unknown {
			continue // the first one may have been done all the same
		}
		o.Outcome = outcome
		if outcome == history.Done && fill != nil {
			if err := fill(&o, text); err != nil {
				w.t.Errorf("%s %s: %v in %s", q.method, q.path, err, text)
			}
		}
		if outcome == history.Done || outcome == history.Refused {
			break
		}
	}
	o.Returned = w.ops.Since()
	if q.method != http.MethodGet || o.Outcome == history.Done {
		w.ops.Add(o)
	}
	return o.Outcome
}

// outcomeOf reads an answer as the API's document says it. A connection that was refused says
// nothing: net/http may have sent the call on another one before, for its Idempotency-Key.
func outcomeOf(status int, err error) history.Outcome {
	switch {
	case err != nil:
		return history.Unknown
	case status/100 == 2:
		return history.Done
	case status == http.StatusServiceUnavailable, status == http.StatusTooManyRequests, status == http.StatusForbidden:
		return history.Failed
	case status/100 == 4:
		return history.Refused
	}
	return history.Unknown
}

// clerk makes changes at a control plane one after the other, and remembers which were
// answered.
type clerk struct {
	w    *world
	done chan struct{}
	stop chan struct{}

	mu    sync.Mutex // guards names
	names []string
}

func (w *world) clerk() *clerk {
	c := &clerk{w: w, done: make(chan struct{}), stop: make(chan struct{})}
	w.clerks++
	number := w.clerks
	go func() {
		defer close(c.done)
		for i := 0; ; i++ {
			select {
			case <-c.stop:
				return
			case <-time.After(w.unhurried):
			}
			name := fmt.Sprintf("person-%d-%d", number, i)
			if w.create(name, w.plane.nodes()) == history.Done {
				c.mu.Lock()
				c.names = append(c.names, name)
				c.mu.Unlock()
			}
		}
	}()
	return c
}

// create makes a principal.
func (w *world) create(name string, nodes []doors) history.Outcome {
	return w.operate(history.Operation{Verb: history.Create, Object: name, By: "admin"},
		request{w.plane.token, http.MethodPost, "/principals", map[string]any{"name": name, "roles": []string{"viewer"}}, nodes}, nil)
}

func (c *clerk) end() {
	close(c.stop)
	<-c.done
}

func (c *clerk) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.names)
}

// missing lists what was answered and is not there.
func (c *clerk) missing() (out []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	there := c.w.lookUp(c.names, nil)
	for _, name := range c.names {
		if there[name] == history.Absent {
			out = append(out, name)
		}
	}
	return out
}

// lookUp reads how principals stand and notes that: once at the first of some nodes, and then
// the answer may be nil, or at any node until one answers.
func (w *world) lookUp(names []string, nodes []doors) map[string]string {
	invoked := w.ops.Since()
	var list struct {
		Items []struct {
			Name     string
			Disabled bool
		}
	}
	if nodes == nil {
		w.plane.mustCurrent("/principals", &list)
	} else if status, text, stale, err := w.plane.askAs(w.plane.token, nodes[0].API, http.MethodGet, "/principals", "", nil); err != nil ||
		status != http.StatusOK || stale || json.Unmarshal(text, &list) != nil {
		return nil
	}
	returned := w.ops.Since()
	states := map[string]string{}
	for _, name := range names {
		states[name] = history.Absent
	}
	for _, p := range list.Items {
		if _, asked := states[p.Name]; asked && p.Disabled {
			states[p.Name] = history.Disabled
		} else if asked {
			states[p.Name] = history.Enabled
		}
	}
	for name, state := range states {
		w.ops.Add(history.Operation{Verb: history.Read, Object: name, Invoked: invoked, Returned: returned, Outcome: history.Done, State: state})
	}
	return states
}

// mustCurrent reads until a node answers with what is current.
func (p *plane) mustCurrent(path string, out any) {
	p.t.Helper()
	until(p.t, "a current answer to "+path, func() (missing string) {
		missing = "no node should answer"
		for _, d := range p.all() {
			status, text, stale, err := p.askAs(p.token, d.API, http.MethodGet, path, "", nil)
			if err == nil && status == http.StatusOK && !stale {
				err = json.Unmarshal(text, out)
			}
			if err == nil && status == http.StatusOK && !stale {
				return ""
			}
			missing = fmt.Sprintf("%d, stale %v, %v: %s", status, stale, err, text)
		}
		return missing
	})
}

// all are the doors of the nodes that should answer.
func (p *plane) all() []doors {
	if p.nodes == nil {
		return []doors{{API: p.addresses.API, Sync: p.addresses.Sync}}
	}
	return p.nodes()
}
