package intake

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// pool gives numbers in their order and notes who asked.
type pool struct {
	asked []string
	err   error
}

func (p *pool) Take(name, reference string, count int) (out []Number, err error) {
	p.asked = append(p.asked, fmt.Sprint(name, " ", reference, " ", count))
	for n := range count {
		out = append(out, Number{Serial: uint64(n + 1), Text: fmt.Sprintf("%03d", n+1)})
	}
	return out, p.err
}

func TestNumbersAreTaken(t *testing.T) {
	r := newRig(t)
	p := r.numbers
	ask := func(name, token, body string) (int, string) {
		t.Helper()
		r.clock.advance(time.Second) // within the rate
		a := r.do(t, http.MethodPost, "/v1/numbers/"+name, body, "Authorization", "Bearer "+token)
		return a.status, string(a.body)
	}
	code, body := ask("sscc", "shop-secret", `{"reference":"order 1","count":2}`)
	var got struct {
		Range   string
		Numbers []Number
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil || code != 200 || got.Range != "sscc" || len(got.Numbers) != 2 || got.Numbers[1] != (Number{2, "002"}) {
		t.Errorf("%d %s, %v", code, body, err)
	}
	if code, body := ask("sscc", "shop-secret", `{"reference":"order 2"}`); code != 200 {
		t.Errorf("one number: %d %s", code, body)
	}
	if want := []string{"sscc shop/order 1 2", "sscc shop/order 2 1"}; !slices.Equal(p.asked, want) {
		t.Errorf("asked %q, want %q", p.asked, want)
	}
	for _, bad := range []string{``, `[]`, `{}`, `{"reference":""}`, `{"reference":"x","count":0}`, `{"reference":"x","count":1001}`, `{"reference":"x","more":1}`,
		"{\"reference\":\"M\xfcller\"}", `{"reference":"M\ud8ffller"}`, `{"reference":"x"} {}`, `{"reference":"` + strings.Repeat("x", maxReference+1) + `"}`} {
		if code, body := ask("sscc", "shop-secret", bad); code != 400 || !strings.Contains(body, string(CodeInvalidRequest)) {
			t.Errorf("%s: %d %s", bad, code, body)
		}
	}
	if code, _ := ask("sscc", "wrong", `{"reference":"x"}`); code != 401 {
		t.Errorf("a wrong token: %d", code)
	}
	for err, want := range map[error]int{ErrNoRange: 404, ErrOtherNumber: 409, ErrNoNumbers: 503, errors.New("disk"): 500} {
		p.err = fmt.Errorf("why: %w", err)
		if code, body := ask("sscc", "shop-secret", `{"reference":"x"}`); code != want || want == 500 && strings.Contains(body, "disk") {
			t.Errorf("%v: %d %s, want %d", err, code, body, want)
		}
	}
}
