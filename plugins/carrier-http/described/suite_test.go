package described

import (
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/carrier/carriertest"
)

func logger(t testing.TB) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }

// parsed reads a description that has to be in order.
func parsed(t testing.TB, file, text string) *Description {
	t.Helper()
	d, err := Parse(file, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// example is the whole one of the README.
func readme(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```yaml\n")
	out, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatal("README.md has no example")
	}
	return out
}

func keyed(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile("testdata/keyed.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func parcels(city string) carrier.Shipment {
	weight := func(text string) sdk.Measure {
		return sdk.Measure{Value: decimal.RequireFromString(text), Unit: sdk.Kilogram}
	}
	return carrier.Shipment{Service: "std", Date: "2026-05-04",
		From:    sdk.Address{Name: "Ann", Lines: []string{"Dam 1"}, City: "Amsterdam", PostalCode: "1012", Country: "NL"},
		To:      sdk.Address{Name: "Bo", Lines: []string{"Neude 2"}, City: city, PostalCode: "3511", Country: "NL"},
		Parcels: []carrier.Parcel{{Reference: "a", Weight: weight("2.3")}, {Reference: "b", Weight: weight("0.1")}}}
}

// The README's example is looked up after a lost answer, and keyed is repeated. Both keep what
// every carrier promises.
func TestSuite(t *testing.T) {
	for _, c := range []struct {
		name     string
		text     func(testing.TB) string
		settings sdk.Settings
	}{
		{"readme", readme, sdk.Settings{"account": "7", "api-key": "secret"}},
		{"keyed", keyed, sdk.Settings{"client": "me", "client-secret": "secret"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := parsed(t, c.name, c.text(t))
			open := func(t testing.TB) carrier.Carrier {
				out := New(d, logger(t))
				t.Cleanup(func() { _ = out.Close() }) // the suite may have closed it
				return out
			}
			carriertest.Run(t, carriertest.Config{
				New: func(t testing.TB) (carrier.Carrier, sdk.Settings) {
					s := sdk.Settings{setBase: newWheels(t).http.URL, setState: t.TempDir()}
					for name, value := range c.settings {
						s[name] = value
					}
					return open(t), s
				},
				Reopen: open,
				Takes:  parcels("Utrecht"), Refuses: parcels("Oslo"),
			})
		})
	}
}

// The examples of the descriptions that are shown give what they say.
func TestExamples(t *testing.T) {
	for name, text := range map[string]string{"README.md": readme(t)} {
		d := parsed(t, name, text)
		n, err := d.Check(t.Context())
		if err != nil || n == 0 {
			t.Errorf("%s: %d examples: %v", name, n, err)
		}
	}
}
