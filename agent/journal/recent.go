package journal

// recent remembers the last so many keys, and what belongs to each.
type recent[K comparable, V any] struct {
	limit  int
	of     map[K]V
	ring   []K // as they came
	oldest int // in ring, once that is full
}

func newRecent[K comparable, V any](limit int) *recent[K, V] {
	return &recent[K, V]{limit: limit, of: map[K]V{}}
}

func (r *recent[K, V]) find(k K) (v V, ok bool) {
	v, ok = r.of[k]
	return v, ok
}

// add remembers a key; one that is remembered already keeps its age.
func (r *recent[K, V]) add(k K, v V) {
	if _, again := r.of[k]; !again {
		if len(r.ring) < r.limit {
			r.ring = append(r.ring, k)
		} else {
			delete(r.of, r.ring[r.oldest])
			r.ring[r.oldest] = k
			r.oldest = (r.oldest + 1) % r.limit
		}
	}
	r.of[k] = v
}
