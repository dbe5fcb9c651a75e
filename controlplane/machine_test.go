package controlplane

import (
	"os"
	"testing"

	"github.com/crossdock/crossdock/controlplane/model"
)

// Commands of a node's machine find the other nodes when that one does not run.
func TestTheOtherNodesAreNoted(t *testing.T) {
	one := run(t, nodeConfig(t, "node-1"))
	others := func(n *running) string {
		text, err := os.ReadFile(FilesIn(n.config.Data).Others)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return string(text)
	}
	if got := others(one); got != "" {
		t.Errorf("alone, it notes %q", got)
	}
	two := one.join(nodeConfig(t, "node-2"))
	until(t, "each notes the other", func() bool {
		return others(one) == two.Addresses().API+"\n" && others(two) == one.Addresses().API+"\n"
	})
	if err := one.cluster.Remove(one.ctx(), asked(), "node-2"); err != nil {
		t.Fatal(err)
	}
	until(t, "a node that is gone is forgotten", func() bool { return others(one) == "" })
}

func TestNodesThatServeTheirOwnMachineOnlyArePassedOver(t *testing.T) {
	own := model.Node{ID: "a", Peer: "hub1:7460"}
	for _, test := range []struct {
		peer, api string
		want      bool
	}{
		{"hub2:7460", "https://hub2:7480", true}, {"hub2:7460", "https://127.0.0.1:7480", false},
		{"hub1:7461", "https://127.0.0.1:7481", true}, {"hub1:7461", "https://localhost:7481", true}, {"hub2:7460", "%", false},
	} {
		if got := reachableFrom(own, model.Node{ID: "b", Peer: test.peer, API: test.api}); got != test.want {
			t.Errorf("%s with %s: %v, want %v", test.peer, test.api, got, test.want)
		}
	}
}
