package sdk

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// form has a field of each kind.
type form struct {
	Money  Money             `json:"money"`
	Places []Address         `json:"places,omitempty"`
	Texts  map[string]string `json:"texts,omitempty"`
	Count  int               `json:"count,omitempty"`
	Yes    bool              `json:"yes,omitempty"`
	Data   []byte            `json:"data,omitempty"`
	At     time.Time         `json:"at,omitzero"`
	Span   Span              `json:"span,omitzero"`
	Weight *Measure          `json:"weight,omitempty"`
}

func TestReadJSONIsStrict(t *testing.T) {
	const money = `{"money":{"amount":"12.50","currency":"EUR"}`
	good := &form{}
	if err := ReadJSON([]byte(money+`,"count":-7,"yes":true,"data":"AQI=","at":"2026-11-30T10:00:00+01:00","span":"0.5s","weight":null,"texts":{"":"x"}} `), good); err != nil {
		t.Fatal(err)
	}
	if good.Money.String() != "12.50 EUR" || good.Count != -7 || !good.Yes || len(good.Data) != 2 || good.At.Unix() != 1796029200 ||
		good.Span != Span(time.Second/2) || good.Weight != nil || good.Texts[""] != "x" {
		t.Errorf("got %+v", good)
	}
	for text, field := range map[string]string{
		``: "", `null`: "", `[]`: "", money: "", money + `} {}`: "", money + `}x`: "",
		`{}`: "money", `{"money":null}`: "money", `{"money":{"currency":"EUR"}}`: "money.amount", `{"Money":{}}`: "Money",
		`{"money":{"amount":12.5,"currency":"EUR"}}`:                  "money.amount",
		`{"money":{"amount":"1e9","currency":"EUR"}}`:                 "money.amount",
		`{"money":{"amount":"1","amount":"2"}}`:                       "money.amount",
		money + `,"places":[{},{"postal_code":"1"}]}`:                 "places[1].postal_code",
		money + `,"places":[{},{"lines":["a",1]}]}`:                   "places[1].lines[1]",
		money + `,"places":null}`:                                     "places",
		money + `,"places":[` + strings.Repeat("{},", 10000) + `{}]}`: "places",
		money + `,"texts":{"a":{}}}`:                                  "texts[a]",
		money + `,"count":1.0}`:                                       "count",
		money + `,"count":2147483648}`:                                "count",
		money + `,"count":"1"}`:                                       "count",
		money + `,"yes":"true"}`:                                      "yes",
		money + `,"data":"AQI"}`:                                      "data",
		money + `,"at":"2026-11-30"}`:                                 "at",
		money + `,"span":"1e9s"}`:                                     "span",
		money + `,"span":"9999999999s"}`:                              "span",
		money + `,"weight":{"value":"1"}}`:                            "weight.unit",
	} {
		err := ReadJSON([]byte(text), &form{})
		e := AsError(err)
		if err == nil || e.Class != Validation || e.Field != field {
			t.Errorf("%.80s: got %v, want an error at %q", text, err, field)
		}
	}
}

// FuzzReadJSON reads any text: what is taken is the same when it is written and read again.
func FuzzReadJSON(f *testing.F) {
	f.Add([]byte(`{"money":{"amount":"12.50","currency":"EUR"},"texts":{"a":"b"},"span":"90s","at":"2026-11-30T10:00:00Z","places":[{"lines":["a"]}]}`))
	f.Add([]byte(`{"money":{"amount":"1e9"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		first := &form{}
		if err := ReadJSON(text, first); err != nil {
			if e := AsError(err); e.Class != Validation || *e != *e.Bounded() {
				t.Errorf("%#v", e)
			}
			return
		}
		written, err := json.Marshal(first)
		if err != nil {
			t.Fatal(err)
		}
		second := &form{}
		if err := ReadJSON(written, second); err != nil {
			t.Fatalf("%s is taken and written as %s: %v", text, written, err)
		}
		again, err := json.Marshal(second)
		if err != nil || string(again) != string(written) {
			t.Errorf("%s becomes %s: %v", written, again, err)
		}
	})
}
