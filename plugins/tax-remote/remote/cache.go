package remote

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
)

// Limits of what is kept.
const (
	maxKept      = 1024 // estimates
	maxKeptLines = 64   // of one; larger documents are no carts that are looked at again
)

// WarningCached is the code of the warning that says how old an estimate is.
const WarningCached = "cached"

// cache keeps estimates for a while. A nil cache keeps nothing.
type cache struct {
	age time.Duration
	now func() time.Time

	mu    sync.Mutex // guards what follows
	kept  map[string]*estimated
	order []string // the oldest first
}

// estimated is an estimate of a document without its reference.
type estimated struct {
	at     time.Time
	result tax.Result
}

func newCache(age time.Duration, now func() time.Time) *cache {
	return &cache{age: age, now: now, kept: map[string]*estimated{}}
}

// key is the same for documents that say the same, whatever their reference is.
func key(d *tax.Document) (string, bool) {
	if len(d.Lines) > maxKeptLines {
		return "", false
	}
	nameless := *d
	nameless.Reference = ""
	digest, err := nameless.Digest()
	return digest, err == nil
}

// find gives an estimate of the same document that is not too old, with its age.
func (c *cache) find(d *tax.Document) *tax.Result {
	if c == nil {
		return nil
	}
	k, ok := key(d)
	if !ok {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trim()
	found := c.kept[k]
	if found == nil {
		return nil
	}
	r := found.result
	r.Reference, r.Source = d.Reference, cached
	age := sdk.Span(c.now().Sub(found.at).Truncate(time.Second))
	r.Warnings = append(slices.Clip(r.Warnings), sdk.Warning{Code: WarningCached, Message: fmt.Sprintf("the remote engine calculated it %s ago", age)})
	return &r
}

// keep keeps an estimate, in place of the oldest when there are too many.
func (c *cache) keep(d *tax.Document, r *tax.Result) {
	if c == nil || r.Status != tax.Calculated {
		return
	}
	k, ok := key(d)
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trim()
	if c.kept[k] != nil {
		return // two asked at once
	}
	if len(c.order) == maxKept {
		c.drop()
	}
	c.kept[k] = &estimated{c.now(), *r}
	c.order = append(c.order, k)
}

// trim drops what is too old. The caller holds mu.
func (c *cache) trim() {
	for len(c.order) > 0 && c.now().Sub(c.kept[c.order[0]].at) >= c.age {
		c.drop()
	}
}

func (c *cache) drop() {
	delete(c.kept, c.order[0])
	c.order = c.order[1:]
}
