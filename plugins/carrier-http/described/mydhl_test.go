package described

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/carrier/carriertest"
)

// testdata is the variable with the directory in which the provider's published specification
// lies. It is the provider's document, and not a part of this tree.
const (
	testdata = "CROSSDOCK_TESTDATA"
	specName = "mydhl-3.1.1.yaml"
)

// published gives the specification; nil: it is not here.
func published(t testing.TB) *openapi3.T {
	t.Helper()
	if os.Getenv(testdata) == "" {
		return nil
	}
	doc, err := specification()
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

var specification = sync.OnceValues(func() (*openapi3.T, error) {
	var text []byte
	var err error
	for _, at := range []string{specName, "carriers/" + specName} {
		if text, err = os.ReadFile(filepath.Join(os.Getenv(testdata), at)); err == nil {
			return openapi3.NewLoader().LoadFromData(text)
		}
	}
	return nil, err
})

// express is a provider of prices and of what is under way.
type express struct {
	t    testing.TB
	doc  *openapi3.T // nil: nothing is held against it
	http *httptest.Server

	mu     sync.Mutex
	events map[string][]string // typeCode and time, by number
	judged int                 // calls that were held against the specification
}

func newExpress(t testing.TB) *express {
	e := &express{t: t, doc: published(t), events: map[string][]string{"1234567890": {"PU 10:00:00"}}}
	e.http = httptest.NewServer(e)
	t.Cleanup(e.http.Close)
	return e
}

func (e *express) happens(number, event string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.events[number] = append(e.events[number], event)
}

func (e *express) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		e.t.Error(err)
	}
	if user, password, _ := r.BasicAuth(); user != "user" || password != "secret" {
		e.t.Errorf("the account is %q", user)
	}
	var in *openapi3filter.RequestValidationInput
	if e.doc != nil {
		if in, err = judge(e.doc, r, body); err != nil {
			e.t.Errorf("%s %s is not as the specification has it: %v\n%s", r.Method, r.URL, err, body)
		}
		e.judged++
	}
	status, answer := e.serve(r, body)
	if in != nil && in.Route != nil {
		err := openapi3filter.ValidateResponse(r.Context(), &openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: status,
			Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(answer)), Options: in.Options})
		if err != nil {
			e.t.Errorf("the answer is not as the specification has it: %v\n%s", err, answer)
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, answer) // whoever asks reads it
}

// judge says what is wrong with a request.
func judge(doc *openapi3.T, r *http.Request, body []byte) (*openapi3filter.RequestValidationInput, error) {
	parts := strings.Split(r.URL.Path, "/")
	for pattern, item := range doc.Paths.Map() {
		want, params, op := strings.Split(pattern, "/"), map[string]string{}, item.GetOperation(r.Method)
		fits := op != nil && len(want) == len(parts)
		for i := 0; fits && i < len(want); i++ {
			if strings.HasPrefix(want[i], "{") {
				params[strings.Trim(want[i], "{}")] = parts[i]
			} else {
				fits = want[i] == parts[i]
			}
		}
		if !fits {
			continue
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		in := &openapi3filter.RequestValidationInput{Request: r, PathParams: params,
			Route:   &routers.Route{Spec: doc, Path: pattern, PathItem: item, Method: r.Method, Operation: op},
			Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, SkipSettingDefaults: true}}
		// What the specification does not name is not refused by the library, and would be lost in silence.
		for name := range r.URL.Query() {
			if op.Parameters.GetByInAndName("query", name) == nil {
				return in, fmt.Errorf("it does not know %s", name)
			}
		}
		return in, openapi3filter.ValidateRequest(r.Context(), in)
	}
	return nil, errors.New("there is no such operation")
}

func (e *express) serve(r *http.Request, body []byte) (int, string) {
	problem := func(status int, detail string) (int, string) {
		return status, fmt.Sprintf(`{"instance":"/","detail":%q,"title":"Bad request","message":"Bad request","status":"%d"}`, detail, status)
	}
	if r.URL.Path == "/rates" {
		var in struct {
			CustomerDetails struct{ ReceiverDetails struct{ CountryCode string } }
			ProductCode     string
		}
		if err := json.Unmarshal(body, &in); err != nil {
			e.t.Error(err)
		}
		if in.CustomerDetails.ReceiverDetails.CountryCode == "AQ" {
			return problem(http.StatusBadRequest, "996: The requested product(s) not available based on your search criteria.")
		}
		product := func(code, price string) string {
			return fmt.Sprintf(`{"productName":"EXPRESS","productCode":%q,"weight":{"provided":3.5,"unitOfMeasurement":"metric"},"totalPrice":[{"currencyType":"BASEC","priceCurrency":"USD","price":999},{"currencyType":"BILLC","priceCurrency":"EUR","price":%s}],"deliveryCapabilities":{"estimatedDeliveryDateAndTime":"2026-05-07T23:59:00","totalTransitDays":3}}`, code, price)
		}
		if in.ProductCode == "P" {
			return http.StatusOK, `{"products":[` + product("P", "157.95") + `]}`
		}
		return http.StatusOK, `{"products":[` + product("Y", "201.17") + "," + product("P", "157.95") + "," + product("H", "0") + `],"warnings":["a word"]}`
	}
	number := strings.Split(r.URL.Path, "/")[2]
	events, known := e.events[number]
	if !known {
		return problem(http.StatusNotFound, "No data found")
	}
	var all []string
	for _, ev := range events {
		code, at, _ := strings.Cut(ev, " ")
		all = append(all, fmt.Sprintf(`{"date":"2026-05-05","time":%q,"GMTOffset":"+02:00","typeCode":%q,"description":"something","serviceArea":[{"code":"MUC","description":"Munich-DE"}]}`, at, code))
	}
	return http.StatusOK, fmt.Sprintf(`{"shipments":[{"shipmentTrackingNumber":%q,"status":"Success","shipmentTimestamp":"2026-05-05T09:00:00","productCode":"P","description":"","shipperDetails":{"name":"","postalAddress":{"cityName":"","postalCode":"","countryCode":"DE"}},"receiverDetails":{"name":"","postalAddress":{"cityName":"","postalCode":"","countryCode":"US"}},"totalWeight":1,"unitOfMeasurements":"metric","shipperReferences":[],"events":[%s],"numberOfPieces":1}]}`,
		number, strings.Join(all, ","))
}

func mydhl(t testing.TB) *Description {
	t.Helper()
	text, err := os.ReadFile("../examples/mydhl.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return parsed(t, "mydhl.yaml", string(text))
}

func (e *express) settings() sdk.Settings {
	return sdk.Settings{setBase: e.http.URL, "username": "user", "password": "secret", "account": "123456789"}
}

// The example of a published interface keeps what every carrier promises.
func TestMyDHLSuite(t *testing.T) {
	d := mydhl(t)
	takes := parcels("Portland")
	takes.Service = "P"
	refuses := takes
	refuses.To.Country = "AQ"
	carriertest.Run(t, carriertest.Config{
		New: func(t testing.TB) (carrier.Carrier, sdk.Settings) {
			c := New(d, logger(t))
			t.Cleanup(func() { _ = c.Close() })
			return c, newExpress(t).settings()
		},
		Takes: takes, Refuses: refuses,
	})
	if n, err := d.Check(t.Context()); err != nil || n == 0 {
		t.Errorf("%d examples: %v", n, err)
	}
}

// What the example sends is what the provider's published specification has, and so is what the
// tests answer.
func TestMyDHLAsPublished(t *testing.T) {
	if published(t) == nil {
		t.Skipf("the provider's published specification is not here, so no request and no answer was held against it: set %s to the directory of %s", testdata, specName)
	}
	e := newExpress(t)
	c := New(mydhl(t), logger(t))
	if err := c.Configure(t.Context(), e.settings()); err != nil {
		t.Fatal(err)
	}
	s := parcels("Portland")
	s.Service = ""
	s.Customs = &carrier.Customs{Content: "merchandise"}
	rates, err := c.Rate(t.Context(), &s)
	if err != nil || len(rates.Rates) != 2 || rates.Rates[0].Service != "P" || rates.Rates[0].Total.String() != "157.95 EUR" || len(rates.Warnings) != 1 {
		t.Fatalf("rates: %+v, %v", rates, err)
	}
	for i, want := range []string{carrier.StatusPickedUp, carrier.StatusDelivered} {
		got, err := c.Track(t.Context(), &carrier.TrackRequest{Tracking: []string{"1234567890", "9999999999", "12"}})
		if err != nil {
			t.Fatal(err)
		}
		p := got.Parcels[0]
		if p.Status != want || len(p.Events) != i+1 || !p.Events[0].Time.Equal(time.Date(2026, 5, 5, 8, 0, 0, 0, time.UTC)) {
			t.Errorf("track: %+v, want status %s", p, want)
		}
		for _, none := range got.Parcels[1:] {
			if none.Problem == nil || none.Problem.Class != sdk.NotFound {
				t.Errorf("track of %s: %+v", none.Tracking, none)
			}
		}
		e.happens("1234567890", "OK 15:30:00")
	}
	if e.judged != 5 {
		t.Errorf("%d calls were held against the specification, want 5", e.judged)
	}
	r := httptest.NewRequest(http.MethodGet, "/shipments/1234567890/tracking?why=so", nil)
	if _, err := judge(e.doc, r, nil); err == nil {
		t.Error("the specification takes a parameter that it does not know")
	}
}
