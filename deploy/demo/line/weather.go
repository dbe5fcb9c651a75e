package line

import (
	"bytes"
	"math/rand/v2"
	"net"
	"time"
)

// Weather is what befalls datagrams, each with a chance of its own.
type Weather struct {
	Lose   float64       // comes never
	Double float64       // comes twice
	Delay  float64       // comes later than those behind it, by up to Most
	Most   time.Duration // of a delay
}

// SetWeather changes it from now on; the zero Weather is fair. The chances go by seed.
func (l *Line) SetWeather(w Weather, seed uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.weather, l.chance = w, rand.New(rand.NewPCG(seed, 0))
}

// Rebind has all UDP flows come from another port, as a router does that has forgotten
// them. It tells how many.
func (l *Line) Rebind() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.flows)
	for _, flow := range l.flows {
		flow.Close()
	}
	l.flows = map[string]*net.UDPConn{}
	return n
}

// carry sends a datagram one way as the state of the line and the weather have it. The
// buffer is the caller's again when it returns.
func (l *Line) carry(w Way, datagram []byte, send func([]byte)) {
	times, late := l.fate(w)
	for range times {
		if late == 0 {
			send(datagram)
			continue
		}
		kept := bytes.Clone(datagram)
		time.AfterFunc(late, func() {
			if l.passUDP(w) {
				send(kept)
			}
		})
	}
}

// fate says how often a datagram comes, and how late.
func (l *Line) fate(w Way) (times int, late time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case !l.carries(w) || l.noUDP:
		return 0, 0
	case l.weather == Weather{}:
		return 1, 0
	case l.chance.Float64() < l.weather.Lose:
		return 0, 0
	}
	times = 1
	if l.chance.Float64() < l.weather.Double {
		times = 2
	}
	if l.weather.Most > 0 && l.chance.Float64() < l.weather.Delay {
		late = 1 + time.Duration(l.chance.Int64N(int64(l.weather.Most)))
	}
	return times, late
}

func (l *Line) passUDP(w Way) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.carries(w) && !l.noUDP
}
