package controlplane

import (
	"testing"

	"github.com/crossdock/crossdock/controlplane/peer"
)

func TestWhoIsLeftBehind(t *testing.T) {
	for _, test := range []struct {
		name            string
		generation      uint64
		voters, fellows int
		other           peer.Status
		want            bool
	}{
		{"one of three, and the other life goes on", 1, 3, 0, peer.Status{Generation: 2}, true},
		{"with a fellow it is a majority", 1, 3, 1, peer.Status{Generation: 2}, false},
		{"two of five are none", 1, 5, 1, peer.Status{Generation: 2}, true},
		{"three of five are", 1, 5, 2, peer.Status{Generation: 2}, false},
		{"one of two is none", 1, 2, 0, peer.Status{Generation: 2}, true},
		{"alone it leads by itself", 1, 1, 0, peer.Status{Generation: 2}, false},
		{"the other life is as old", 2, 3, 0, peer.Status{Generation: 2}, false},
		{"the other life is the one before", 3, 3, 0, peer.Status{Generation: 2}, false},
		{"the other life does not go on", 1, 3, 0, peer.Status{Generation: 2, NotReady: "no leader"}, false},
		{"the other life has not begun", 1, 3, 0, peer.Status{}, false},
		{"it has joined and was never sent a state", 0, 0, 0, peer.Status{Generation: 2}, true},
	} {
		if got := overtaken(test.generation, test.voters, test.fellows, &test.other); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}
