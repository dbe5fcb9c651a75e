package intake

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// nowhere takes everything at once: what is left is the door itself.
type nowhere struct{}

func (nowhere) Submit(_ context.Context, events []Admitted) ([]Receipt, error) {
	return make([]Receipt, len(events)), nil
}

func benchmark(b *testing.B, body string, perOp int, headers ...string) {
	r := newRig(b)
	set := compilePolicy(b)
	set.Systems["shop"].Intake.Rate, set.Systems["shop"].Intake.Burst = 1e12, 1e9
	r.policy.p.Store(set)
	r.parts.Journal = nowhere{}
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		q := httptest.NewRequest(http.MethodPost, "/v1/events", strings.NewReader(body))
		q.Header.Set("Authorization", "Bearer shop-secret")
		for i := 0; i < len(headers); i += 2 {
			q.Header.Set(headers[i], headers[i+1])
		}
		w := httptest.NewRecorder()
		r.http.ServeHTTP(w, q)
		if w.Code != http.StatusAccepted {
			b.Fatal(w.Code, w.Body)
		}
	}
	b.ReportMetric(float64(perOp*b.N)/b.Elapsed().Seconds(), "events/s")
}

func benchData() string {
	return `{"orderId":"A-1","channel":"web","lines":[` + strings.TrimSuffix(strings.Repeat(`{"qty":"2","sku":"4711","name":"Chai"},`, 10), ",") + `]}`
}

func BenchmarkSingle(b *testing.B) {
	benchmark(b, structured("1", benchData()), 1, "Content-Type", structuredType)
}

func BenchmarkBinary(b *testing.B) { benchmark(b, benchData(), 1, binaryHeaders("1")...) }

func BenchmarkBatch(b *testing.B) {
	events := make([]string, 100)
	for i := range events {
		events[i] = structured(strings.Repeat("i", i+1), benchData())
	}
	benchmark(b, "["+strings.Join(events, ",")+"]", len(events), "Content-Type", batchType)
}
