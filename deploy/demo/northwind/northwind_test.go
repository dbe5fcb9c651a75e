package northwind

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/crossdock/crossdock/deploy/demo/data"
)

func TestLoad(t *testing.T) {
	c, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	lines, unshipped := 0, 0
	regions := map[string]int{}
	for i := range c.Orders {
		o := &c.Orders[i]
		lines += len(o.Lines)
		regions[o.Region]++
		if o.Shipped.IsZero() {
			unshipped++
		}
		if o.ShipTo.Street == "" || o.ShipTo.City == "" || o.Customer.Name == "" {
			t.Errorf("order %s lacks its address or customer: %+v", o.ID, o)
		}
	}
	for _, count := range []struct {
		what      string
		got, want int
	}{
		{"orders", len(c.Orders), 830}, {"lines", lines, 2155}, {"customers", len(c.Customers), 91},
		{"products", len(c.Products), 77}, {"shippers", len(c.Shippers), 3}, {"not shipped", unshipped, 21},
		{"orders in eu", regions[Europe], 505}, {"orders in na", regions[NorthAmerica], 152},
		{"orders in latam", regions[LatinAmerica], 173},
	} {
		if count.got != count.want {
			t.Errorf("%s: got %d, want %d", count.what, count.got, count.want)
		}
	}
}

// The addresses of these orders hold commas that the files do not quote.
func TestUnquotedCommas(t *testing.T) {
	c, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]Address{
		"10250": {"Rua do Paço, 67", "Rio de Janeiro", "RJ", "05454-876", "Brazil", "BR"},
		"10251": {"2, rue du Commerce", "Lyon", "", "69004", "France", "FR"},
		"10248": {"59 rue de l'Abbaye", "Reims", "", "51100", "France", "FR"},
	}
	for i := range c.Orders {
		if address, ok := want[c.Orders[i].ID]; ok && c.Orders[i].ShipTo != address {
			t.Errorf("order %s: got %+v, want %+v", c.Orders[i].ID, c.Orders[i].ShipTo, address)
		}
	}
}

func TestAmounts(t *testing.T) {
	c, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	for i := range c.Orders {
		o := &c.Orders[i]
		if o.ID != "10250" {
			continue
		}
		// 10 x 7.70 + 35 x 42.40 less 15 % + 15 x 16.80 less 15 %
		if got := o.Captured(); got.NetAmount != "1552.60" || got.PayableAmount != "1618.43" {
			t.Errorf("got net %s and payable %s, want 1552.60 and 1618.43", got.NetAmount, got.PayableAmount)
		}
	}
}

func TestBrokenFiles(t *testing.T) {
	whole := fstest.MapFS{}
	for _, name := range []string{"customers.csv", "products.csv", "shippers.csv", "orders.csv", "order-details.csv"} {
		text, err := data.Files.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		whole[name] = &fstest.MapFile{Data: text}
	}
	for _, tt := range []struct{ name, file, old, new, want string }{
		{"country", "orders.csv", "France", "Freedonia", `orders.csv: line 2: country "Freedonia" belongs to no region`},
		{"fields", "shippers.csv", "1,Speedy", "1,2,Speedy", "shippers.csv: line 2: 4 fields, 3 are expected"},
		{"number", "order-details.csv", "14.00", "x", "order-details.csv: line 2: can't convert x to decimal"},
		{"product", "order-details.csv", "10248,11,", "10248,999,", `order-details.csv: line 2: order "10248" or product "999" is unknown`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			files := fstest.MapFS{}
			for name, f := range whole {
				files[name] = f
			}
			text := strings.Replace(string(whole[tt.file].Data), tt.old, tt.new, 1)
			files[tt.file] = &fstest.MapFile{Data: []byte(text)}
			if _, err := load(files); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func FuzzSplit(f *testing.F) {
	f.Add("a,b,c\n1,2,3\n1,2,2,3\n", 3, 1)
	f.Fuzz(func(t *testing.T, text string, columns, address int) {
		if columns < 1 || columns > 20 || address < -1 || address >= columns {
			return
		}
		rows, err := split(text, columns, address)
		for _, r := range rows {
			if err == nil && len(r) != columns {
				t.Fatalf("%d fields, want %d", len(r), columns)
			}
		}
	})
}
