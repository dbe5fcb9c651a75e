package journal

import "github.com/crossdock/crossdock/protocol/block"

// Events gives the events of one record as a log holds it, for tools that read a journal
// without opening it. A gap record has none. Source is empty for an event that was
// accepted here.
func Events(pos uint64, data []byte) ([]LocalItem, error) {
	r, err := parseRecord(data)
	if err != nil {
		return nil, err
	}
	switch {
	case r.entry != nil:
		return []LocalItem{localItem(pos, 0, "", r.entry.Head, r.entry.Body)}, nil
	case r.block == nil:
		return nil, nil
	}
	envelope, items, err := block.Open(r.block)
	if err != nil {
		return nil, err
	}
	var out []LocalItem
	for i := range items {
		if r.passes(i) {
			continue
		}
		out = append(out, localItem(pos, i, envelope.Origin.Agent, items[i].Head, items[i].Body))
	}
	return out, nil
}
