package systemtest

import (
	"fmt"
	"sync"
	"time"
)

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
			if status, _ := w.plane.try("POST", "/principals", map[string]any{"name": name, "roles": []string{"viewer"}}); status/100 == 2 {
				c.mu.Lock()
				c.names = append(c.names, name)
				c.mu.Unlock()
			}
		}
	}()
	return c
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
	var list struct{ Items []struct{ Name string } }
	c.w.plane.must("GET", "/principals", nil, &list)
	there := map[string]bool{}
	for _, p := range list.Items {
		there[p.Name] = true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range c.names {
		if !there[name] {
			out = append(out, name)
		}
	}
	return out
}
