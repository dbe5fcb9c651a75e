package state

import (
	"slices"
	"testing"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/block"
)

// What waits for a site without an agent is told with its age, event by event, and no more
// once an agent is there and has fetched it.
func TestWhatWaitsForASiteWithoutAnAgentIsTold(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{})
	f.activate("eu", "br")
	f.join("eu")
	if got := f.Unattended(); len(got) != 0 {
		t.Fatalf("before anything waits: %+v", got)
	}
	push := func(first uint64, count int) time.Time {
		at := f.by("eu").At
		text := cut(t, "eu", 1, []block.Lane{{Agent: "br", First: first}}, plain(count, 100)...)
		f.must(&model.Push{Agent: "eu", Epoch: 1, Blocks: [][]byte{text}, At: at})
		return at
	}
	first := push(1, 2)
	f.must(&model.Push{Agent: "eu", Epoch: 1, Gaps: []model.Gap{{Destination: "br", First: 3, Last: 3, Cause: "damaged"}}, At: f.by("eu").At})
	second := push(4, 1)
	sites := f.Unattended()
	if len(sites) != 1 || sites[0].Site != "br" || sites[0].Events != 3 || sites[0].Bytes == 0 || !sites[0].Since.Equal(first) {
		t.Errorf("unattended = %+v, want br with 3 events since %s", sites, first)
	}
	wanted := []model.LaneNumber{{Source: "eu", Number: 1}, {Source: "eu", Number: 2}, {Source: "eu", Number: 3}, {Source: "eu", Number: 4}, {Source: "eu", Number: 5}, {Source: "na", Number: 1}}
	want := []time.Time{first, first, {}, second, {}, {}}
	if got := f.Relayed("br", wanted); !slices.EqualFunc(got, want, time.Time.Equal) {
		t.Errorf("relayed = %v, want %v", got, want)
	}
	f.join("br")
	if got := f.Unattended(); len(got) != 0 {
		t.Errorf("with an agent: %+v", got)
	}
	f.must(&model.Ack{Agent: "br", Mailbox: f.Mailbox("br").Next - 1, At: f.by("eu").At})
	if got, want := f.Relayed("br", wanted), make([]time.Time, len(wanted)); !slices.Equal(got, want) {
		t.Errorf("once fetched: %v", got)
	}
}

// A mailbox is read in parts, and every part counts.
func TestALongMailboxIsLookedThrough(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{})
	f.activate("eu", "br")
	f.join("eu")
	at := f.by("eu").At
	var wanted []model.LaneNumber
	const pieces = 2*readAtOnce + 2
	for n := uint64(1); n <= pieces; {
		push := &model.Push{Agent: "eu", Epoch: 1, At: at}
		for ; n <= pieces && len(push.Blocks) < 512; n++ {
			push.Blocks = append(push.Blocks, cut(t, "eu", 1, []block.Lane{{Agent: "br", First: n}}, plain(1, 10)...))
			wanted = append(wanted, model.LaneNumber{Source: "eu", Number: n})
		}
		f.must(push)
	}
	for i, got := range f.Relayed("br", wanted) {
		if !got.Equal(at) {
			t.Fatalf("number %d: relayed %s, want %s", i+1, got, at)
		}
	}
}
