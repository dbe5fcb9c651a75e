package state

import (
	"cmp"
	"slices"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
)

// readAtOnce bounds the pieces of mail that one transaction looks at: an open one keeps the
// pages of all that is changed meanwhile.
const readAtOnce = 4096

// Unattended lists the sites without an agent for which something waits, by name.
func (r *Reader) Unattended() (sites []model.Unattended) {
	r.read(func(v view) {
		v.each(tableBoxes, nil, nil, func(k, value []byte) bool {
			box := parse[boxRow](tableBoxes, k, value)
			if box.Bytes == 0 || v.raw(tableAgents, k) != nil {
				return true
			}
			site := model.Unattended{Site: string(k), Events: box.Events, Bytes: box.Bytes}
			v.each(tableMail, key(site.Site), nil, func(k, value []byte) bool {
				site.Since = parse[mailRow](tableMail, k, value).Relayed
				return false
			})
			sites = append(sites, site)
			return true
		})
	})
	return sites
}

// Relayed tells of numbers on lanes to a destination when the relay took them; the zero time
// says that they do not wait in its mailbox, or no more. No block is opened for it. Should
// several epochs of a source have given a number, the newest counts: the mail of the ones
// before was fetched first.
func (r *Reader) Relayed(destination string, wanted []model.LaneNumber) []time.Time {
	relayed := make([]time.Time, len(wanted))
	bySource := map[string][]int{} // places in wanted, by number
	for i, w := range wanted {
		bySource[w.Source] = append(bySource[w.Source], i)
	}
	for _, places := range bySource {
		slices.SortFunc(places, func(a, b int) int { return cmp.Compare(wanted[a].Number, wanted[b].Number) })
	}
	for from, more := key(destination), true; more; {
		read := 0
		r.read(func(v view) {
			v.each(tableMail, key(destination), from, func(k, value []byte) bool {
				if read++; read > readAtOnce {
					from = key(destination, last8(k))
					return false
				}
				m := parse[mailRow](tableMail, k, value)
				places := bySource[m.Source]
				at, _ := slices.BinarySearchFunc(places, m.First, func(i int, n uint64) int { return cmp.Compare(wanted[i].Number, n) })
				for ; m.Gap == nil && at < len(places) && wanted[places[at]].Number <= m.Last; at++ {
					relayed[places[at]] = m.Relayed
				}
				return true
			})
		})
		more = read > readAtOnce
	}
	return relayed
}
