package systemtest

import (
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/crossdock/crossdock/deploy/demo/line"
)

// agentFaults are crashes of agents.
var agentFaults = []fault{
	{name: "kill-agent", do: func(x *trouble) { x.killAgent(x.anySite()) }},
	{name: "kill-agents", do: func(x *trouble) { // both, one upon the other
		for range 6 + x.r.IntN(7) {
			for _, name := range siteNames {
				s := x.sites[name]
				if x.chance(80) { // else it is killed while it starts
					s.awaitReady()
					x.wait(0, 300*time.Millisecond)
				}
				x.killAgent(s)
			}
		}
	}},
	{name: "kill-agents-at-steps", do: func(x *trouble) {
		for range 3 + x.r.IntN(3) {
			steps := []string{"before-commit", "after-commit", "before-send", "after-send"}
			for _, name := range siteNames {
				x.killAgentAt(x.sites[name], steps[x.r.IntN(len(steps))], 1+x.r.Int64N(12))
			}
		}
	}},
}

// agentDiskFaults are those of the agents' disks.
var agentDiskFaults = []fault{
	{name: "cut-power-of-agents", do: func(x *trouble) {
		for range 2 + x.r.IntN(3) {
			for _, name := range siteNames {
				x.sites[name].awaitReady()
				x.wait(0, 300*time.Millisecond)
				x.cutPowerOfAgent(name)
			}
		}
	}, needs: []need{needDisks}},
	{name: "freeze-disk-of-agent", do: func(x *trouble) {
		s := x.anySite()
		d := x.atSite[s.name]
		x.c.did[didFreeze]++
		d.Freeze()
		x.wait(0, 5*time.Second)
		d.Thaw()
	}, needs: []need{needDisks}},
	{name: "slow-disk-of-agent", do: func(x *trouble) { x.slow(x.atSite[x.anySite().name]) }, needs: []need{needDisks}},
	{name: "fill-disk-of-agent", do: func(x *trouble) {
		s := x.anySite()
		d := x.atSite[s.name]
		x.c.did[didFill]++
		x.pressed = append(x.pressed, s.name)
		d.Fill()
		x.wait(0, 3*time.Second)
		if x.chance(50) { // it starts on a full disk, and delivers what it has
			x.killAgent(s)
			s.awaitReady()
			x.wait(0, time.Second)
		}
		d.Empty()
	}, needs: []need{needDisks}},
	{name: "sync-error-at-agent", do: func(x *trouble) {
		s := x.anySite()
		failSync(x.t, s.child.cmd.Process.Pid, s.child.ended, "the agent at "+s.name)
		x.c.did[didSyncError]++
		x.crashes++
		s.startChild("", 0)
	}, needs: []need{needStrace}},
}

func (x *trouble) anySite() *site { return x.sites[siteNames[x.r.IntN(len(siteNames))]] }

func (x *trouble) killAgent(s *site) {
	x.c.did[didKillAgent]++
	x.crashes++
	s.child.kill(x.t)
	s.startChild("", 0)
}

// killAgentAt kills an agent, and once more when it has come so often to a step.
func (x *trouble) killAgentAt(s *site, step string, at int64) {
	x.c.did[didKillAgent] += 2
	x.crashes += 2
	s.child.kill(x.t)
	s.startChild(step, at)
	if !comes(s.child.ended) {
		x.t.Errorf("the agent at %s did not come %d times to %s", s.name, at, step)
		s.child.crash()
	}
	s.startChild("", 0)
}

func (x *trouble) cutPowerOfAgent(name string) {
	s, d := x.sites[name], x.atSite[name]
	x.c.did[didCutPower]++
	x.c.did[didCutAgent]++
	x.crashes++
	d.Cut()
	s.child.crash()
	d.Restore()
	s.startChild("", 0)
}

// lineFaults are those of the wide-area lines between agents and nodes.
var lineFaults = []fault{
	{name: "cut-line", do: func(x *trouble) { x.cutLines(x.someLines(), (*line.Line).Cut) }},
	{name: "cut-line-one-way", do: func(x *trouble) {
		way := []line.Way{line.There, line.Back}[x.r.IntN(2)]
		x.cutLines(x.someLines(), func(l *line.Line) { l.CutWay(way) })
	}},
	{name: "bad-weather", do: func(x *trouble) {
		x.c.did[didWeather]++
		bad := line.Weather{Lose: 0.15 * x.r.Float64(), Double: 0.3 * x.r.Float64(), Delay: 0.5 * x.r.Float64(), Most: 100 * time.Millisecond}
		for _, l := range x.allLines() {
			l.SetWeather(bad, x.r.Uint64())
		}
		x.wait(2*time.Second, 5*time.Second)
		for _, l := range x.allLines() {
			l.SetWeather(line.Weather{}, 0)
		}
	}},
	{name: "block-udp", do: func(x *trouble) {
		s := x.anySite()
		for _, l := range x.lines[s.name] {
			l.BlockUDP(true)
		}
		x.killAgent(s) // one whose session stands still would wait for its end
		s.awaitLink("tcp")
		x.c.did[didBlockUDP]++
		x.more(20)
		for _, l := range x.lines[s.name] {
			l.BlockUDP(false)
		}
		s.awaitLink("quic")
	}},
	{name: "rebind", do: func(x *trouble) {
		for range 3 + x.r.IntN(4) {
			for _, l := range x.allLines() {
				x.c.did[didRebind] += l.Rebind()
			}
			x.wait(100*time.Millisecond, time.Second)
		}
	}},
}

// allLines are always in the same order, for the sake of the seed.
func (x *trouble) allLines() (out []*line.Line) {
	for _, name := range slices.Sorted(maps.Keys(x.lines)) {
		out = append(out, x.lines[name]...)
	}
	return out
}

// someLines are those of one site or of all.
func (x *trouble) someLines() []*line.Line {
	if x.chance(30) {
		return x.allLines()
	}
	return x.lines[x.anySite().name]
}

func (x *trouble) cutLines(lines []*line.Line, cut func(*line.Line)) {
	x.c.did[didCutLine]++
	for _, l := range lines {
		cut(l)
	}
	x.wait(200*time.Millisecond, 4*time.Second)
	for _, l := range lines {
		l.Restore()
	}
}

// seeded makes chances for something that runs beside the test.
func (x *trouble) seeded() *rand.Rand { return rand.New(rand.NewPCG(x.r.Uint64(), 0)) }
