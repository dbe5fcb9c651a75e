// Package material owns what the benchmark sends: one policy with one contract, and orders
// of about 1 KB that satisfy it and compress as orders do.
//
// It refuses to know who takes them. Its invariant: the order with a number is always the
// same, whichever arm and round it is made for, and no two numbers share a key, unless keys were asked for.
package material

import (
	"bytes"
	_ "embed" // policyText
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	demo "github.com/crossdock/crossdock/deploy/demo/policy"
	"github.com/crossdock/crossdock/protocol/policy"
)

// Names that stand in the policy.
const (
	ShopSite  = "shop"
	ERPSite   = "hq"
	Shop      = "shop"
	ERP       = "erp"
	Type      = "order.captured.v1"
	TokenFile = "shop.token"
	Token     = "a-token-that-only-the-benchmark-knows"

	schemaFile = "order.captured-1.1.0.json" // of the demo: 29 fields
)

//go:embed policy.yaml
var policyText string

// Batch is how many events a request to the ERP may carry, unless a measurement says otherwise.
const Batch = 64

// WritePolicy puts the folder of policy into dir, with the address at which the ERP
// listens, and how many events it takes in one request.
func WritePolicy(dir, erp string, batch int) error {
	schema, err := demo.Files.ReadFile("schemas/" + schemaFile)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, schemaFile), schema, 0o600); err != nil {
		return err
	}
	text := strings.NewReplacer("ERP_ADDRESS", erp, "BATCH", strconv.Itoa(batch)).Replace(policyText)
	return os.WriteFile(filepath.Join(dir, "policy.yaml"), []byte(text), 0o600)
}

// ReadPolicy compiles a folder of policy.
func ReadPolicy(dir string) (*policy.Set, error) {
	bundle, err := policy.ReadBundle(os.DirFS(dir))
	if err != nil {
		return nil, err
	}
	set, problems := policy.Compile(bundle)
	if set == nil {
		return nil, problems
	}
	return set, nil
}

// Policy writes a folder of policy and compiles it.
func Policy(dir, erp string) (*policy.Set, error) {
	if err := WritePolicy(dir, erp, Batch); err != nil {
		return nil, err
	}
	return ReadPolicy(dir)
}

// variants is how many orders differ in more than their number: more than a block holds,
// or a block would compress better than orders do.
const variants = 4096

// noteLength makes an order about 1 KB long, and a block of them compress about 3.6 times.
const noteLength = 232

// Digits of a serial number, so that all events have one size.
const digits = 9

// Orders makes events. It is safe for concurrent use.
type Orders struct {
	data [variants]string // what follows the order's number
	keys int              // different numbers of orders; 0: each event has its own
}

// NewOrders makes them from a seed.
func NewOrders(seed uint64) *Orders {
	o := &Orders{}
	random := rand.New(rand.NewPCG(seed, 0))
	for i := range o.data {
		o.data[i] = order(random)
	}
	return o
}

// WithKeys are the same events, of so many orders.
func (o *Orders) WithKeys(n int) *Orders { return &Orders{data: o.data, keys: n} }

const idPrefix = `"id":"evt-`

// Append writes the event with a serial number in the JSON format of CloudEvents.
func (o *Orders) Append(b []byte, serial int) []byte {
	b = append(b, `{"specversion":"1.0",`+idPrefix...)
	b = appendSerial(b, serial)
	b = append(b, `","source":"/shop","type":"`+Type+`","datacontenttype":"application/json","data":{"orderId":"O-`...)
	key := serial
	if o.keys > 0 {
		key %= o.keys
	}
	b = appendSerial(b, key)
	return append(b, o.data[serial%variants]...)
}

func appendSerial(b []byte, serial int) []byte {
	text := strconv.Itoa(serial)
	return append(append(b, "000000000"[:max(0, digits-len(text))]...), text...)
}

// Serial finds the number of an event in its text.
func Serial(text []byte) (int, error) {
	serial, _, err := cutSerial(text[:min(len(text), 128)])
	return serial, err
}

// Serials finds the numbers of all events in the text of a batch, without reading it as
// JSON: nothing else in an order looks like its id.
func Serials(batch []byte) ([]int, error) {
	if !bytes.HasPrefix(batch, []byte("[")) || !bytes.HasSuffix(batch, []byte("]")) {
		return nil, fmt.Errorf("no batch: %.128q", batch)
	}
	rest := batch
	out := make([]int, 0, len(rest)/1024+1)
	for bytes.Contains(rest, []byte(idPrefix)) {
		var serial int
		var err error
		if serial, rest, err = cutSerial(rest); err != nil {
			return nil, err
		}
		out = append(out, serial)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no event of the benchmark in a batch: %.128q", batch)
	}
	return out, nil
}

// cutSerial finds the first number, and gives what follows it.
func cutSerial(text []byte) (serial int, rest []byte, err error) {
	_, rest, ok := bytes.Cut(text, []byte(idPrefix))
	if !ok || len(rest) < digits {
		return 0, nil, fmt.Errorf("no event of the benchmark: %.128q", text)
	}
	serial, err = strconv.Atoi(string(rest[:digits]))
	return serial, rest[digits:], err
}

var (
	streets  = []string{"Hafenstrasse", "Rue de la Gare", "Via Roma", "Long Acre", "Storgatan", "Calle Mayor", "Keizersgracht", "Linz Allee"}
	cities   = []string{"Hamburg", "Lyon", "Torino", "London", "Stockholm", "Madrid", "Amsterdam", "Graz", "Porto", "Gdansk", "Turku", "Aarhus"}
	articles = []string{"Chai", "Chang", "Aniseed Syrup", "Ikura", "Konbu", "Tofu", "Pavlova", "Carnarvon Tigers", "Filo Mix", "Gravad lax"}
	people   = []string{"Maria Anders", "Ana Trujillo", "Thomas Hardy", "Hanna Moos", "Laurence Lebihan", "Elizabeth Lincoln", "Yang Wang", "Pedro Afonso"}
)

// order writes the data of an order from behind its number on.
func order(random *rand.Rand) string {
	pick := func(from []string) string { return from[random.IntN(len(from))] }
	city, name := pick(cities), pick(people)
	var b strings.Builder
	fmt.Fprintf(&b, `","orderedAt":"2026-%02d-%02dT%02d:%02d:%02dZ","requestedBy":"2026-12-%02d","salesRegion":"eu","currency":"EUR",`,
		1+random.IntN(11), 1+random.IntN(28), random.IntN(24), random.IntN(60), random.IntN(60), 1+random.IntN(28))
	fmt.Fprintf(&b, `"customer":{"id":"%s","name":%q,"contact":%q,"phone":"+%02d %07d"},`,
		"C"+letters(random, 11), name, pick(people), 30+random.IntN(60), random.IntN(10_000_000))
	fmt.Fprintf(&b, `"shipTo":{"name":%q,"street":"%s %d","city":%q,"postalCode":"%05d","region":"Central","country":"DE"},"carrier":{"id":"S-%d","name":"Speedy Express"},`,
		name, pick(streets), 1+random.IntN(200), city, random.IntN(100_000), 1+random.IntN(3))
	fmt.Fprintf(&b, `"note":"%s",`, letters(random, noteLength))
	price, quantity := 100+random.IntN(9000), 1+random.IntN(60)
	fmt.Fprintf(&b, `"lines":[{"lineId":"10","sku":"%s","description":%q,"quantity":"%d","unit":"C62","unitPrice":"%d.%02d","discount":"0.05","netAmount":"%d.%02d"}`,
		"P"+letters(random, 11), pick(articles), quantity, price/100, price%100, price*quantity/100, price*quantity%100)
	net := random.IntN(1_000_000)
	fmt.Fprintf(&b, `],"netAmount":"%d.%02d","freightAmount":"%d.%02d","payableAmount":"%d.%02d"}}`,
		net/100, net%100, random.IntN(90), random.IntN(100), net/90, random.IntN(100))
	return b.String()
}

// letters is text that does not compress well, as what people write does not.
func letters(random *rand.Rand, n int) string {
	const of = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-."
	b := make([]byte, n)
	for i := range b {
		b[i] = of[random.IntN(len(of))]
	}
	return string(b)
}

// JSON is the event with a serial number, and its data alone.
func (o *Orders) JSON(serial int) (event []byte, data json.RawMessage, err error) {
	event = o.Append(nil, serial)
	var parsed struct{ Data json.RawMessage }
	err = json.Unmarshal(event, &parsed)
	return event, parsed.Data, err
}
