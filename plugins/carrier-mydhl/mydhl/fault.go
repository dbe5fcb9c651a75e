package mydhl

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/httpcall"
)

// refused makes an error of an answer that is none of success. A status says whether the call
// was done: below 500 surely not.
func (k *call) refused(a *httpcall.Answer, now time.Time) error {
	var p problem
	known := json.Unmarshal(a.Body, &p) == nil && (p.Detail != "" || p.Title != "" || p.Message != "")
	e := k.byStatus(a.Status, &p, known)
	if e.Class == sdk.Throttled || e.Class == sdk.Unavailable {
		e.RetryAfter = httpcall.RetryAfter(a.Header, now)
	}
	e.Provider = sdk.Provider{Code: strconv.Itoa(a.Status), Text: strings.TrimSpace(string(a.Body))}
	if known {
		number, text := p.split()
		if number != "" {
			e.Provider.Code = number
		}
		e.Provider.Text = strings.Join(append([]string{text}, p.AdditionalDetails...), "\n")
	}
	return e
}

func (k *call) byStatus(status int, p *problem, known bool) *sdk.Error {
	provider := func(class sdk.Class, format string, args ...any) *sdk.Error {
		e := sdk.Errorf(class, format, args...)
		e.Fault = sdk.FaultProvider
		return e
	}
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return sdk.Errorf(sdk.Auth, "DHL does not let this user in (%d)", status).Suggest("look at the settings " + setUser + ", " + setPassword + " and " + setAccount)
	case status == http.StatusTooManyRequests:
		return provider(sdk.Throttled, "DHL takes no more calls for now")
	case status == http.StatusServiceUnavailable:
		return provider(sdk.Unavailable, "DHL is not available (503)")
	case (status >= 500 || status == http.StatusRequestTimeout) && k.buys:
		return provider(sdk.UnknownOutcome, "DHL failed with the order in its hands (%d)", status)
	case status >= 500 || status == http.StatusRequestTimeout:
		return provider(sdk.Unavailable, "DHL failed (%d)", status)
	case status < 400 || !known:
		return sdk.Errorf(sdk.Unavailable, "this is not how the MyDHL API answers (%d)", status).Suggest("look at the setting " + setBase + ", and at proxies on the way")
	case status == http.StatusNotFound:
		return sdk.Errorf(sdk.NotFound, "DHL knows nothing of that")
	}
	return k.byText(p)
}

// Numbers that begin the provider's text, of which the class is known.
var numbered = map[string]sdk.Class{
	"996":  sdk.NotServiced, // the product is not available between the places
	"7008": sdk.NotServiced, // nor is the special service
	"8003": sdk.Auth,        // the account is not allowed to use the service
	"5556": sdk.Auth,        // the account is not that of the pickup
	"1504": sdk.NotFound,    // no image
}

// Words by which the provider's prose is read where it has no number of its own. The first
// that fits is taken.
var worded = []struct {
	words *regexp.Regexp
	class sdk.Class
	field string
}{
	{regexp.MustCompile(`(?i)account.*(not found|invalid|not allowed|not valid|not match)`), sdk.Auth, ""},
	{regexp.MustCompile(`(?i)already (cancelled|canceled|completed)`), sdk.Conflict, ""},
	{regexp.MustCompile(`(?i)(not available|no products?|not serviced|not served|cannot be served|restricted|exceeds? .*(weight|dimension|limit)|(weight|dimension)s? .*exceed)`), sdk.NotServiced, ""},
	{regexp.MustCompile(`(?i)(ShipTimeStamp|shipping ?date|pickup ?date|PlannedShipping)`), sdk.Validation, "date"},
	{regexp.MustCompile(`(?i)(receiver|destination|consignee).*(postal|postcode|zip)`), sdk.Validation, "to.postalCode"},
	{regexp.MustCompile(`(?i)(shipper|origin).*(postal|postcode|zip)`), sdk.Validation, "from.postalCode"},
	{regexp.MustCompile(`(?i)(receiver|destination|consignee).*city`), sdk.Validation, "to.city"},
	{regexp.MustCompile(`(?i)(shipper|origin).*city`), sdk.Validation, "from.city"},
}

// byText reads an error in order, of a request that was not in order.
func (k *call) byText(p *problem) *sdk.Error {
	number, text := p.split()
	shown := text
	if shown == "" {
		shown = p.Title
	}
	if class, found := numbered[number]; found {
		return sdk.Errorf(class, "%s", shown)
	}
	for _, detail := range append([]string{p.Detail}, p.AdditionalDetails...) {
		if field, why := k.pointed(detail); field != "" {
			return sdk.Errorf(sdk.Validation, "%s", why).At(field)
		}
	}
	for _, w := range worded {
		if w.words.MatchString(text) && (w.field == "" || slices.Contains(slices.Collect(maps.Values(k.fields)), w.field)) {
			return sdk.Errorf(w.class, "%s", shown).At(w.field)
		}
	}
	return sdk.Errorf(sdk.Validation, "%s", shown).At("shipment")
}

var beginsWithNumber = regexp.MustCompile(`^\s*(\d{3,6})\s*:\s*`)

// split parts the provider's number from its text.
func (p *problem) split() (number, text string) {
	text = p.Detail
	if text == "" {
		text = strings.TrimSpace(p.Title + " " + p.Message)
	}
	if m := beginsWithNumber.FindStringSubmatch(text); m != nil {
		return m[1], strings.TrimSpace(text[len(m[0]):])
	}
	return "", strings.TrimSpace(text)
}

var (
	pointer  = regexp.MustCompile(`#(/[\w/-]*)`)
	inQuotes = regexp.MustCompile(`\[(\w+)\]`)
)

// pointed finds the field that a text such as "#/content/packages/0/weight: 0 is not greater"
// points at.
func (k *call) pointed(text string) (field, why string) {
	m := pointer.FindStringSubmatchIndex(text)
	if m == nil {
		return "", ""
	}
	path, why := text[m[2]:m[3]], strings.TrimLeft(text[m[1]:], ": ")
	if strings.HasPrefix(why, "required key") {
		if key := inQuotes.FindStringSubmatch(why); key != nil {
			path += "/" + key[1]
		}
	}
	generic, numbers := "", []any{}
	for _, part := range strings.Split(strings.Trim(path, "/"), "/") {
		if n, err := strconv.Atoi(part); err == nil {
			numbers, part = append(numbers, n), "#"
		}
		generic += "/" + part
	}
	for generic != "" {
		if name, known := k.fields[generic]; known {
			if n := strings.Count(name, "%d"); n <= len(numbers) {
				return fmt.Sprintf(name, numbers[:n]...), why
			}
		}
		generic = generic[:strings.LastIndex(generic, "/")]
	}
	return "", ""
}
