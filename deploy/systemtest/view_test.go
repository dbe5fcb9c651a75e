package systemtest

import "fmt"

// view is what a node says of the cluster.
type view struct {
	Node, LeaderNode string
	Generation       uint64
	Incarnation      string
	Nodes            []struct {
		ID, Role, Problem, Hash string
		Ready                   bool
		Applied                 uint64
	}
	Verdict struct {
		Index  uint64
		Agreed bool
		Halted string
	}
}

func (p *plane) view() (v view) {
	p.t.Helper()
	p.must("GET", "/cluster", nil, &v)
	return v
}

// leaderNode waits until a node leads, and gives its name.
func (p *plane) leaderNode() (name string) {
	p.t.Helper()
	until(p.t, "a node leads", func() string {
		v := p.view()
		if name = v.LeaderNode; name == "" {
			return fmt.Sprintf("%+v", v)
		}
		return ""
	})
	return name
}

// awaitEqual waits until all nodes have applied the same, and compares their states.
func (p *plane) awaitEqual() {
	p.t.Helper()
	var differ string
	until(p.t, "all nodes have applied the same", func() string {
		v := p.view()
		if len(v.Nodes) != len(p.nodes()) || v.Verdict.Halted != "" {
			return fmt.Sprintf("%+v", v)
		}
		differ = ""
		for _, n := range v.Nodes {
			if !n.Ready || n.Hash == "" || n.Applied != v.Nodes[0].Applied {
				return fmt.Sprintf("%+v", v.Nodes)
			}
			if n.Hash != v.Nodes[0].Hash {
				differ = fmt.Sprintf("%+v", v.Nodes)
			}
		}
		return ""
	})
	if differ != "" {
		p.t.Errorf("the states of the nodes differ at the same entry: %s", differ)
	}
}
