package mydhl

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3filter"
)

// dhl is a provider on this machine. It keeps state, and holds every request and every answer
// of its own against the published specification, where that is.
type dhl struct {
	t    testing.TB
	spec *spec
	now  func() time.Time
	http *httptest.Server

	mu       sync.Mutex
	password string
	faults   []fault
	sold     []*consignment
	pickups  map[string]string // confirmations to booked or cancelled
	hidden   bool              // tracking does not know what was sold yet
	requests []string
	last     map[string]map[string]any // bodies by method and first part of the path
	refused  []error                   // requests that the specification does not allow
}

// consignment is one shipment that was sold.
type consignment struct {
	number, reference, account, product string
	pieces                              []string
	events                              []map[string]any
	invoice                             bool
}

// fault is one failure to come, at the first request that begins with its words.
type fault struct {
	at     string // method and path
	before func(w http.ResponseWriter, r *http.Request)
	after  func(w http.ResponseWriter, r *http.Request) // the order was taken
}

func newDHL(t testing.TB, now func() time.Time) *dhl {
	t.Helper()
	d := &dhl{t: t, spec: published(t), now: now, password: "secret", pickups: map[string]string{}, last: map[string]map[string]any{}}
	d.http = httptest.NewServer(d)
	t.Cleanup(func() {
		d.http.Close()
		for _, err := range d.refused {
			t.Errorf("the published specification does not allow it: %v", err)
		}
	})
	return d
}

func (d *dhl) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	d.mu.Lock()
	d.requests = append(d.requests, r.Method+" "+r.URL.Path)
	f := d.fault(r)
	password := d.password
	d.mu.Unlock()
	if f.before != nil {
		f.before(w, r)
		return
	}
	if user, pass, _ := r.BasicAuth(); user != "user" || pass != password {
		d.write(w, http.StatusUnauthorized, problemOf("Unauthorized", "Invalid Credentials"))
		return
	}
	var in *openapi3filter.RequestValidationInput
	if d.spec != nil {
		if in, err = d.spec.request(r, body); err != nil {
			d.mu.Lock()
			d.refused = append(d.refused, fmt.Errorf("%s %s: %w", r.Method, r.URL.Path, err))
			d.mu.Unlock()
			d.write(w, http.StatusUnprocessableEntity, problemOf("Validation error", "#/content: "+clip(err.Error(), 300)))
			return
		}
	}
	status, answer := d.serve(r, body)
	if in != nil {
		text, err := json.Marshal(answer)
		if err != nil {
			d.t.Error(err)
		}
		if answer == nil {
			text = nil
		}
		if err := d.spec.answer(in, status, text); err != nil {
			d.t.Errorf("the fake's answer to %s %s: %v", r.Method, r.URL.Path, err)
		}
	}
	if f.after != nil {
		f.after(w, r)
		return
	}
	d.write(w, status, answer)
}

func (d *dhl) fault(r *http.Request) fault {
	for i, f := range d.faults {
		if strings.HasPrefix(r.Method+" "+r.URL.Path, f.at) {
			d.faults = slices.Delete(d.faults, i, i+1)
			return f
		}
	}
	return fault{}
}

// fail lets the next such request fail.
func (d *dhl) fail(f fault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults = append(d.faults, f)
}

func (d *dhl) write(w http.ResponseWriter, status int, answer any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if answer == nil {
		return
	}
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		d.t.Logf("the answer was not read: %v", err)
	}
}

func problemOf(title, detail string) map[string]any {
	return map[string]any{"instance": "/expressapi", "title": title, "detail": detail, "message": title}
}

func (d *dhl) serve(r *http.Request, body []byte) (int, any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	in := map[string]any{}
	if len(body) > 0 {
		if err := json.Unmarshal(body, &in); err != nil {
			return http.StatusBadRequest, problemOf("Bad request", err.Error())
		}
	}
	d.last[r.Method+" /"+strings.Split(r.URL.Path, "/")[1]] = in
	number := ""
	if parts := strings.Split(r.URL.Path, "/"); len(parts) > 2 {
		number = parts[2]
	}
	switch path := r.URL.Path; {
	case path == "/rates":
		return d.rates(in)
	case path == "/shipments":
		return d.ship(in)
	case path == "/pickups":
		return d.pickup(in)
	case strings.HasPrefix(path, "/pickups/"):
		return d.booked(r.Method, number)
	case path == "/tracking":
		return d.track(r)
	case path == "/address-validate":
		return d.address(r)
	case strings.HasSuffix(path, "/tracking"):
		return d.found(d.consignments(func(c *consignment) bool { return c.number == number }), r.URL.Query().Get("requestGMTOffsetPerEvent") == "true")
	case strings.HasSuffix(path, "/proof-of-delivery"):
		return http.StatusOK, map[string]any{"documents": []any{map[string]any{"encodingFormat": "PDF", "typeCode": "POD", "content": pdf("proof")}}}
	case strings.HasSuffix(path, "/get-image"):
		return d.images(number)
	}
	return http.StatusNotFound, problemOf("Not found", "no such path")
}

// at reads a value from decoded JSON.
func at(v any, path ...any) any {
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[p]
		case int:
			l, _ := v.([]any)
			if p >= len(l) {
				return nil
			}
			v = l[p]
		}
	}
	return v
}

func text(v any, path ...any) string {
	s, _ := at(v, path...).(string)
	return s
}

func list(v any, path ...any) []any {
	l, _ := at(v, path...).([]any)
	return l
}

// takes says why an order is not taken.
func (d *dhl) takes(in map[string]any, planned string) (int, any) {
	when, err := time.Parse("2006-01-02T15:04:05 GMT-07:00", planned)
	if err != nil {
		return http.StatusBadRequest, problemOf("Bad request", "998: ShipTimeStamp is not well formatted.(Expected Sample Format : '2010-02-11T17:10:09 GMT+01:00')")
	}
	if when.Before(d.now()) || when.After(d.now().AddDate(0, 0, 11)) {
		return http.StatusBadRequest, problemOf("Bad request", "1003: The requested shipping date is in the past or too far in the future")
	}
	if number := text(in, "accounts", 0, "number"); number != "123456789" {
		return http.StatusBadRequest, problemOf("Bad request", "8003: Account not allowed for this service. Please contact your DHL Express representative.")
	}
	return 0, nil
}

var unserved = problemOf("Bad request", "996: The requested product(s) not available based on your search criteria.")

func pdf(what string) string { return base64.StdEncoding.EncodeToString([]byte("%PDF-1.4 " + what)) }

func (d *dhl) rates(in map[string]any) (int, any) {
	if status, p := d.takes(in, text(in, "plannedShippingDateAndTime")); status != 0 {
		return status, p
	}
	if text(in, "customerDetails", "receiverDetails", "countryCode") == "AQ" {
		return http.StatusBadRequest, unserved
	}
	product := func(code, name string, total, base, fuel, tax json.Number, days int) map[string]any {
		part := func(name, code string, price json.Number) map[string]any {
			out := map[string]any{"name": name, "price": price}
			if code != "" {
				out["serviceCode"] = code
			}
			return out
		}
		return map[string]any{
			"productName": name, "productCode": code, "weight": map[string]any{"volumetric": 1.2, "provided": 3.5, "unitOfMeasurement": "metric"},
			"totalPrice": []any{
				map[string]any{"currencyType": "BASEC", "priceCurrency": "USD", "price": 999},
				map[string]any{"currencyType": "BILLC", "priceCurrency": "EUR", "price": total},
			},
			"totalPriceBreakdown": []any{map[string]any{"currencyType": "BILLC", "priceCurrency": "EUR",
				"priceBreakdown": []any{map[string]any{"typeCode": "STTXA", "price": tax}, map[string]any{"typeCode": "SPRQT", "price": base}}}},
			"detailedPriceBreakdown": []any{map[string]any{"currencyType": "BILLC", "priceCurrency": "EUR",
				"breakdown": []any{part(name, "", base), part("FUEL SURCHARGE", "FF", fuel), map[string]any{"name": "SATURDAY DELIVERY", "serviceCode": "AA"}}}},
			"deliveryCapabilities": map[string]any{"estimatedDeliveryDateAndTime": "2026-05-07T23:59:00", "totalTransitDays": days},
		}
	}
	all := []any{
		product("Y", "EXPRESS 12:00 NONDOC", "201.17", "150.10", "20.5", "30.57", 2),
		product("P", "EXPRESS WORLDWIDE NONDOC", "157.95", "130", "27.95", "0", 3),
		map[string]any{"productCode": "H", "weight": map[string]any{}, "totalPrice": []any{map[string]any{"currencyType": "BILLC", "priceCurrency": "EUR", "price": 0}}},
	}
	if code := text(in, "productCode"); code != "" {
		all = slices.DeleteFunc(all, func(p any) bool { return text(p, "productCode") != code })
	}
	return http.StatusOK, map[string]any{"products": all, "warnings": []any{"a word from DHL"}}
}

func (d *dhl) ship(in map[string]any) (int, any) {
	if status, p := d.takes(in, text(in, "plannedShippingDateAndTime")); status != 0 {
		return status, p
	}
	if text(in, "customerDetails", "receiverDetails", "postalAddress", "countryCode") == "AQ" {
		return http.StatusBadRequest, unserved
	}
	n := len(d.sold) + 1
	c := &consignment{number: fmt.Sprintf("%010d", 1000000000+n), reference: text(in, "customerReferences", 0, "value"),
		account: text(in, "accounts", 0, "number"), product: text(in, "productCode")}
	answer := map[string]any{"shipmentTrackingNumber": c.number}
	var packages, documents []any
	format := text(in, "outputImageProperties", "encodingFormat")
	for i := range list(in, "content", "packages") {
		piece := fmt.Sprintf("JD01460000%06d%03d", n, i+1)
		c.pieces = append(c.pieces, piece)
		packages = append(packages, map[string]any{"referenceNumber": i + 1, "trackingNumber": piece})
		label := pdf("label " + piece)
		if format == "zpl" {
			label = base64.StdEncoding.EncodeToString([]byte("^XA^FD" + piece + "^FS^XZ"))
		}
		documents = append(documents, map[string]any{"imageFormat": strings.ToUpper(format), "content": label, "typeCode": "label", "packageReferenceNumber": i + 1})
	}
	for _, o := range list(in, "outputImageProperties", "imageOptions") {
		if text(o, "typeCode") == "invoice" {
			documents = append(documents, map[string]any{"imageFormat": "PDF", "content": pdf("invoice"), "typeCode": "invoice"})
			c.invoice = true
		}
	}
	answer["packages"], answer["documents"] = packages, documents
	answer["shipmentCharges"] = []any{
		map[string]any{"currencyType": "BILLC", "priceCurrency": "EUR", "price": json.Number("157.95"), "serviceBreakdown": []any{
			map[string]any{"name": "EXPRESS WORLDWIDE", "price": 130}, map[string]any{"name": "FUEL SURCHARGE", "price": json.Number("27.95"), "typeCode": "FF"}}},
	}
	d.sold = append(d.sold, c)
	return http.StatusCreated, answer
}

func (d *dhl) consignments(which func(*consignment) bool) []*consignment {
	if d.hidden {
		return nil
	}
	var out []*consignment
	for _, c := range d.sold {
		if which(c) {
			out = append(out, c)
		}
	}
	return out
}

func (d *dhl) track(r *http.Request) (int, any) {
	q := r.URL.Query()
	if q.Get("shipmentReference") != "" && (q.Get("shipperAccountNumber") == "" || q.Get("dateRangeFrom") == "") {
		return http.StatusBadRequest, problemOf("Missing parameters", "Missing mandatory parameters: shipperAccountNumber")
	}
	return d.found(d.consignments(func(c *consignment) bool {
		return slices.Contains(q["shipmentTrackingNumber"], c.number) ||
			slices.ContainsFunc(c.pieces, func(p string) bool { return slices.Contains(q["pieceTrackingNumber"], p) }) ||
			q.Get("shipmentReference") != "" && c.reference == q.Get("shipmentReference") && c.account == q.Get("shipperAccountNumber")
	}), false)
}

func (d *dhl) found(all []*consignment, offsets bool) (int, any) {
	if len(all) == 0 {
		return http.StatusNotFound, problemOf("Not data found", "No data found")
	}
	var out []any
	for _, c := range all {
		events := []any{}
		for _, e := range c.events {
			e = map[string]any{"date": e["date"], "time": e["time"], "typeCode": e["typeCode"], "description": e["description"], "GMTOffset": e["GMTOffset"],
				"serviceArea": []any{map[string]any{"code": "BNE", "description": "Brisbane-AU"}}}
			if !offsets {
				delete(e, "GMTOffset")
			}
			events = append(events, e)
		}
		var pieces []any
		for i, p := range c.pieces {
			pieces = append(pieces, map[string]any{"number": i + 1, "trackingNumber": p, "events": events})
		}
		out = append(out, map[string]any{"shipmentTrackingNumber": c.number, "status": "Success", "productCode": c.product, "events": events, "pieces": pieces,
			"estimatedDeliveryDate": "2026-05-07", "shipperReferences": []any{map[string]any{"value": c.reference, "typeCode": "CU"}}})
	}
	return http.StatusOK, map[string]any{"shipments": out}
}

func (d *dhl) images(number string) (int, any) {
	for _, c := range d.sold {
		if c.number == number && c.invoice {
			return http.StatusOK, map[string]any{"documents": []any{map[string]any{"shipmentTrackingNumber": number, "typeCode": "commercial-invoice",
				"encodingFormat": "PDF", "content": pdf("invoice")}}}
		}
	}
	return http.StatusNotFound, problemOf("Not found", "1504: No document images found for the provided search criteria.")
}

func (d *dhl) pickup(in map[string]any) (int, any) {
	if status, p := d.takes(in, text(in, "plannedPickupDateAndTime")); status != 0 {
		return status, p
	}
	number := fmt.Sprintf("PRG260504%06d", len(d.pickups)+1)
	d.pickups[number] = "booked"
	return http.StatusCreated, map[string]any{"dispatchConfirmationNumbers": []any{number}, "nextPickupDate": "2026-05-04"}
}

func (d *dhl) booked(method, number string) (int, any) {
	switch {
	case d.pickups[number] == "":
		return http.StatusNotFound, problemOf("Pickup not found", "Cancellation of booking was not successful. Requested Pickup was not found")
	case d.pickups[number] == "cancelled":
		return http.StatusBadRequest, problemOf("Bad request", "Pickup already cancelled")
	case method == http.MethodPatch:
		return http.StatusOK, map[string]any{"dispatchConfirmationNumber": number, "readyByTime": "11:00"}
	}
	d.pickups[number] = "cancelled"
	return http.StatusOK, nil
}

func (d *dhl) address(r *http.Request) (int, any) {
	q := r.URL.Query()
	if q.Get("countryCode") == "AQ" {
		return http.StatusBadRequest, problemOf("Bad request", "3003: There is no delivery to the destination: not serviced")
	}
	postal := q.Get("postalCode")
	if postal == "00000" {
		return http.StatusOK, map[string]any{"address": []any{}, "warnings": []any{"Postal code not found"}}
	}
	if q.Get("cityName") == "Minga" {
		return http.StatusOK, map[string]any{"address": []any{map[string]any{"countryCode": "DE", "postalCode": postal, "cityName": "MUENCHEN"}}}
	}
	return http.StatusOK, map[string]any{"address": []any{map[string]any{"countryCode": q.Get("countryCode"), "postalCode": postal, "cityName": strings.ToUpper(q.Get("cityName"))}}}
}

// Ways to fail.

func answers(status int, header map[string]string, body string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		for k, v := range header {
			w.Header().Set(k, v)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body) // whether it is read is the test's business
	}
}

// cut breaks the connection.
func cut(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// half begins an answer and breaks the connection.
func half(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "1000")
	w.WriteHeader(http.StatusCreated)
	_, _ = io.WriteString(w, `{"shipmentTrackingNumber":"10`)
	panic(http.ErrAbortHandler)
}

// set changes the state.
func (d *dhl) set(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
}

// sales are the shipments that were sold.
func (d *dhl) sales() []*consignment {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.sold)
}

// sent is the last body of a kind.
func (d *dhl) sent(what string) map[string]any {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.last[what]
}

// count is of the requests that begin so.
func (d *dhl) count(of string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for _, r := range d.requests {
		if strings.HasPrefix(r, of) {
			n++
		}
	}
	return n
}
