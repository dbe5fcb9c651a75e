// Package northwind owns the demo's business: the orders of a small trading company,
// read from the sample files and sorted into the demo's regions.
//
// It refuses to know policy, agents and transport. Its invariant: what Load returns is
// whole and consistent, every order with its lines, customer, shipper and region.
package northwind

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/deploy/demo/data"
)

// The regions of the demo.
const (
	Europe       = "eu"
	NorthAmerica = "na"
	LatinAmerica = "latam"
)

// Currency is that of every amount.
const Currency = "USD"

// Company is everything that the sample holds.
type Company struct {
	Orders    []Order // by id
	Customers map[string]Customer
	Products  map[string]Product
	Shippers  map[string]Shipper
}

// Customer is one who orders.
type Customer struct {
	ID, Name, Contact, Title, Phone string
	Address                         Address
}

// Address is a place. Country is the name that the sample uses; CountryCode is ISO 3166.
type Address struct {
	Street, City, Region, PostalCode, Country, CountryCode string
}

// Product is one article; its id is the demo's SKU.
type Product struct {
	ID, Name, Packing string
	UnitPrice         decimal.Decimal
	InStock, OnOrder  int
	ReorderLevel      int
	Discontinued      bool
}

// Shipper is one who carries.
type Shipper struct{ ID, Name, Phone string }

// Order is one order of one customer. Dates are days, at midnight UTC.
type Order struct {
	ID       string
	Customer Customer
	Ordered  time.Time
	Required time.Time
	Shipped  time.Time // zero: not yet
	Shipper  Shipper
	Freight  decimal.Decimal
	ShipName string
	ShipTo   Address
	Region   string // of the demo, by the country that it is shipped to
	Lines    []Line
}

// Line is one product of an order.
type Line struct {
	Product   Product
	UnitPrice decimal.Decimal
	Quantity  int
	Discount  decimal.Decimal // a share, such as 0.15
}

// Net is what the line costs after the discount, in cents' precision.
func (l *Line) Net() decimal.Decimal {
	gross := l.UnitPrice.Mul(decimal.NewFromInt(int64(l.Quantity)))
	return gross.Mul(decimal.NewFromInt(1).Sub(l.Discount)).Round(2)
}

// Net is what the lines cost together, freight not included.
func (o *Order) Net() decimal.Decimal {
	sum := decimal.Zero
	for i := range o.Lines {
		sum = sum.Add(o.Lines[i].Net())
	}
	return sum
}

// country says where the demo puts a country of the sample.
type country struct{ code, region string }

func countries() map[string]country {
	return map[string]country{
		"Argentina": {"AR", LatinAmerica}, "Brazil": {"BR", LatinAmerica},
		"Mexico": {"MX", LatinAmerica}, "Venezuela": {"VE", LatinAmerica},
		"Canada": {"CA", NorthAmerica}, "USA": {"US", NorthAmerica},
		"Austria": {"AT", Europe}, "Belgium": {"BE", Europe}, "Denmark": {"DK", Europe},
		"Finland": {"FI", Europe}, "France": {"FR", Europe}, "Germany": {"DE", Europe},
		"Ireland": {"IE", Europe}, "Italy": {"IT", Europe}, "Norway": {"NO", Europe},
		"Poland": {"PL", Europe}, "Portugal": {"PT", Europe}, "Spain": {"ES", Europe},
		"Sweden": {"SE", Europe}, "Switzerland": {"CH", Europe}, "UK": {"GB", Europe},
	}
}

// Load reads the embedded sample.
func Load() (*Company, error) { return load(data.Files) }

func load(files fs.FS) (*Company, error) {
	c := &Company{Customers: map[string]Customer{}, Products: map[string]Product{}, Shippers: map[string]Shipper{}}
	l := loader{company: c, countries: countries(), orders: map[string]int{}}
	for _, f := range []struct {
		name    string
		columns int
		address int // the column that may hold commas; -1: none
		row     func([]string) error
	}{
		{"customers.csv", 11, 4, l.customer},
		{"products.csv", 10, -1, l.product},
		{"shippers.csv", 3, -1, l.shipper},
		{"orders.csv", 14, 9, l.order},
		{"order-details.csv", 5, -1, l.line},
	} {
		text, err := fs.ReadFile(files, f.name)
		if err != nil {
			return nil, fmt.Errorf("northwind: %w", err)
		}
		rows, err := split(string(text), f.columns, f.address)
		if err != nil {
			return nil, fmt.Errorf("northwind: %s: %w", f.name, err)
		}
		for i, row := range rows {
			if err := f.row(row); err != nil {
				return nil, fmt.Errorf("northwind: %s: line %d: %w", f.name, i+2, err)
			}
		}
	}
	for i := range c.Orders {
		if len(c.Orders[i].Lines) == 0 {
			return nil, fmt.Errorf("northwind: order %s has no lines", c.Orders[i].ID)
		}
	}
	slices.SortFunc(c.Orders, func(a, b Order) int { return strings.Compare(a.ID, b.ID) })
	return c, nil
}

// split cuts the rows of a file, without its head. The files do not quote: a comma in an
// address makes a field too many, and the surplus belongs to the address, the only column
// where that happens. NULL becomes an empty field.
func split(text string, columns, address int) ([][]string, error) {
	var out [][]string
	for n, line := range strings.Split(strings.TrimRight(text, "\r\n"), "\n") {
		if n == 0 {
			continue
		}
		fields := strings.Split(strings.TrimRight(line, "\r"), ",")
		if surplus := len(fields) - columns; surplus > 0 && address >= 0 {
			whole := strings.Join(fields[address:address+surplus+1], ",")
			fields = slices.Concat(fields[:address], []string{whole}, fields[address+surplus+1:])
		}
		if len(fields) != columns {
			return nil, fmt.Errorf("line %d: %d fields, %d are expected", n+1, len(fields), columns)
		}
		for i := range fields {
			if fields[i] == "NULL" {
				fields[i] = ""
			}
		}
		out = append(out, fields)
	}
	return out, nil
}

type loader struct {
	company   *Company
	countries map[string]country
	orders    map[string]int // index in company.Orders by id
}

func (l *loader) address(street, city, region, postal, name string) (Address, string, error) {
	where, ok := l.countries[name]
	if !ok {
		return Address{}, "", fmt.Errorf("country %q belongs to no region", name)
	}
	return Address{Street: street, City: city, Region: region, PostalCode: postal, Country: name, CountryCode: where.code}, where.region, nil
}

func (l *loader) customer(f []string) error {
	address, _, err := l.address(f[4], f[5], f[6], f[7], f[8])
	l.company.Customers[f[0]] = Customer{ID: f[0], Name: f[1], Contact: f[2], Title: f[3], Phone: f[9], Address: address}
	return err
}

func (l *loader) product(f []string) error {
	price, err1 := decimal.NewFromString(f[5])
	stock, err2 := strconv.Atoi(f[6])
	coming, err3 := strconv.Atoi(f[7])
	reorder, err4 := strconv.Atoi(f[8])
	l.company.Products[f[0]] = Product{
		ID: f[0], Name: f[1], Packing: f[4], UnitPrice: price, InStock: stock, OnOrder: coming,
		ReorderLevel: reorder, Discontinued: f[9] == "1",
	}
	return errors.Join(err1, err2, err3, err4)
}

func (l *loader) shipper(f []string) error {
	l.company.Shippers[f[0]] = Shipper{ID: f[0], Name: f[1], Phone: f[2]}
	return nil
}

func (l *loader) order(f []string) error {
	customer, ok1 := l.company.Customers[f[1]]
	shipper, ok2 := l.company.Shippers[f[6]]
	if !ok1 || !ok2 {
		return fmt.Errorf("customer %q or shipper %q is unknown", f[1], f[6])
	}
	ordered, err1 := day(f[3])
	required, err2 := day(f[4])
	var shipped time.Time
	var err3 error
	if f[5] != "" {
		shipped, err3 = day(f[5])
	}
	freight, err4 := decimal.NewFromString(f[7])
	to, region, err5 := l.address(f[9], f[10], f[11], f[12], f[13])
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return err
	}
	if _, twice := l.orders[f[0]]; twice {
		return fmt.Errorf("order %s stands twice", f[0])
	}
	l.orders[f[0]] = len(l.company.Orders)
	l.company.Orders = append(l.company.Orders, Order{
		ID: f[0], Customer: customer, Ordered: ordered, Required: required, Shipped: shipped,
		Shipper: shipper, Freight: freight, ShipName: f[8], ShipTo: to, Region: region,
	})
	return nil
}

func (l *loader) line(f []string) error {
	at, ok1 := l.orders[f[0]]
	product, ok2 := l.company.Products[f[1]]
	if !ok1 || !ok2 {
		return fmt.Errorf("order %q or product %q is unknown", f[0], f[1])
	}
	price, err1 := decimal.NewFromString(f[2])
	quantity, err2 := strconv.Atoi(f[3])
	discount, err3 := decimal.NewFromString(f[4])
	o := &l.company.Orders[at]
	o.Lines = append(o.Lines, Line{Product: product, UnitPrice: price, Quantity: quantity, Discount: discount})
	return errors.Join(err1, err2, err3)
}

func day(text string) (time.Time, error) { return time.Parse("2006-01-02 15:04:05.000", text) }
