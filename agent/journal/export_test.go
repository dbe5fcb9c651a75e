package journal

// Waiting is how many requests wait for a commit.
func (j *Journal) Waiting() int { return len(j.requests) }

// Remembered is how many ids of earlier epochs are in memory.
func (j *Journal) Remembered() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	n := 0
	for _, k := range j.known {
		n += len(k.ids.of)
	}
	return n
}
