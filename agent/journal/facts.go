package journal

import "github.com/crossdock/crossdock/protocol/block"

// toldFact is a fact on the lane to the control plane: its number, and what it takes.
type toldFact struct {
	number uint64
	bytes  int
}

// noteFact remembers what a fact takes; j.mu is held, except by Open. After a restart only
// those among the newest events count, as with repeats.
func (j *Journal) noteFact(h *block.Head, numbers []block.Number, bytes int) {
	if len(numbers) == 1 && numbers[0].Agent == block.Control && len(h.TargetsAt(j.cfg.Self)) == 0 {
		j.told = append(j.told, toldFact{numbers[0].Seq, bytes})
		j.toldSize += int64(bytes)
	}
}

// FactBytes is what the facts take that the control plane has not taken yet: those behind a
// number. A number that is less than before, of a control plane that was restored, counts for
// nothing more.
func (j *Journal) FactBytes(taken uint64) int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	for len(j.told) > 0 && j.told[0].number <= taken {
		j.toldSize -= int64(j.told[0].bytes)
		j.told = j.told[1:]
	}
	return j.toldSize
}
