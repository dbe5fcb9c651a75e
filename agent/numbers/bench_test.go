package numbers

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

// BenchmarkTake is what a number costs, for one caller and for many at once. There are numbers
// for -benchtime 900x.
func BenchmarkTake(b *testing.B) {
	for _, callers := range []int{1, 16} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			s := newBench(b)
			s.lease()
			s.refuse("all", MaxCount, ErrUsedUp) // so that as many are leased, block by block
			for range MaxCount / 20 {
				s.lease()
			}
			var serial atomic.Int64
			var asking sync.WaitGroup
			b.ResetTimer()
			for range callers {
				asking.Go(func() {
					for n := serial.Add(1); n <= int64(b.N); n = serial.Add(1) {
						if _, err := s.Take("a", fmt.Sprint("R", n), 1); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			asking.Wait()
		})
	}
}
