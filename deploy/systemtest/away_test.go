package systemtest

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/controlplane"
	"github.com/crossdock/crossdock/deploy/systemtest/history"
)

// noise is text that does not get smaller.
func noise(r *rand.Rand, size int) string {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
	var b strings.Builder
	for range size {
		b.WriteByte(letters[r.IntN(len(letters))])
	}
	return b.String()
}

// TestDestinationThatIsAwayHoldsBackItsOwnLaneOnly sends more to an absent agent than its
// mailbox takes. The same orders go to another one, in the same blocks.
func TestDestinationThatIsAwayHoldsBackItsOwnLaneOnly(t *testing.T) {
	const (
		mailbox = 1 << 20
		size    = 32 << 10
		orders  = 120 // about three mailboxes
	)
	small := func(c *controlplane.Config) {
		c.Limits.MailboxBytes, c.Limits.RelayBytes = mailbox, 16<<20
	}
	w := newWorld(t, small, []string{"eu", "hq", "na"}, func(h *history.History) []*system {
		return []*system{newSystem(t, h, "erp", "hq"), newSystem(t, h, "store", "na")}
	})
	w.sites["eu"].start()
	w.sites["hq"].start()
	r := rand.New(rand.NewPCG(1, 2))
	sell := func(name string, n int) {
		for i := range n {
			if err := w.shops["eu"].sell(t.Context(), newOrder(fmt.Sprint(name, i), fmt.Sprint("k", i%7), i, noise(r, size))); err != nil {
				t.Fatal(err)
			}
		}
	}
	sell("first-", orders)
	w.awaitTaken("erp", orders)
	w.sites["eu"].awaitStatus("keeps what the mailbox does not take", func(s agent.Status) string {
		if !s.Link.Connected || s.Queue.Outgoing == 0 || s.Queue.Outgoing >= orders {
			return fmt.Sprintf("connected %v, %d to send", s.Link.Connected, s.Queue.Outgoing)
		}
		return ""
	})
	box := w.plane.agent("na")
	if box.MailboxBytes > mailbox || box.MailboxEvents == 0 || box.MailboxEvents >= orders {
		t.Errorf("the mailbox holds %d events with %d bytes, its limit is %d", box.MailboxEvents, box.MailboxBytes, mailbox)
	}
	if n := scrape(t, w.sites["eu"].cfg.Ops.Listen, "crossdock_agent_lane_held_back_total", `"na"`); n == 0 {
		t.Error("no metric shows that the lane is held back")
	}
	sell("later-", 10) // and it stays so
	w.awaitTaken("erp", orders+10)

	w.sites["na"].start()
	w.awaitTaken("store", orders+10)
	until(t, "the mailbox is empty", func() string {
		if box := w.plane.agent("na"); box.MailboxEvents > 0 || box.MailboxBytes > 0 {
			return fmt.Sprintf("%+v", box)
		}
		return ""
	})
	w.settle(0)
}
