package zone

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/oned"
	"github.com/shopspring/decimal"
	"pgregory.net/rapid"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/checkdigit"
)

// pictures takes the images out of a PDF: their streams are the compressed data of the PNGs
// that they were.
func pictures(t *testing.T, pdf []byte) []image.Image {
	t.Helper()
	var out []image.Image
	head := regexp.MustCompile(`(?s)/Subtype /Image\n/Width (\d+)\n/Height (\d+)\n/ColorSpace /DeviceGray\n/BitsPerComponent 8\n.*?/Length (\d+)>>\nstream\n`)
	for _, at := range head.FindAllSubmatchIndex(pdf, -1) {
		number := func(i int) uint32 {
			return uint32(must[int](t)(strconv.Atoi(string(pdf[at[2*i]:at[2*i+1]]))))
		}
		var file bytes.Buffer
		file.WriteString("\x89PNG\r\n\x1a\n")
		chunk := func(kind string, data []byte) {
			body := append([]byte(kind), data...)
			binary.Write(&file, binary.BigEndian, uint32(len(data)))
			file.Write(body)
			binary.Write(&file, binary.BigEndian, crc32.ChecksumIEEE(body))
		}
		size := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, number(1)), number(2))
		chunk("IHDR", append(size, 8, 0, 0, 0, 0))
		chunk("IDAT", pdf[at[1]:at[1]+int(number(3))])
		chunk("IEND", nil)
		out = append(out, must[image.Image](t)(png.Decode(&file)))
	}
	return out
}

// scan reads a barcode as a scanner does; that of GS1 begins with ]C1.
func scan(t *testing.T, picture image.Image) string {
	t.Helper()
	bitmap := must[*gozxing.BinaryBitmap](t)(gozxing.NewBinaryBitmapFromImage(picture))
	got := must[*gozxing.Result](t)(oned.NewCode128Reader().Decode(bitmap, map[gozxing.DecodeHintType]any{gozxing.DecodeHintType_ASSUME_GS1: true}))
	return got.GetText()
}

func TestBarcodesOfThePDFAreRead(t *testing.T) {
	c := start(t, t.TempDir())
	for i, x := range []struct{ tracking, sscc string }{
		{"Z-0001", ""}, {"RR473124829FI", "106141412345678908"}, {"6291041500213", ""}, {"123456", ""},
		{"ABCDEFGHIJKLMNOPQRSTUVWXYZ-123", ""}, {"0614141123452", must[string](t)(checkdigit.Complete(checkdigit.SSCC, "10614141234567891"))},
	} {
		s := munich(fmt.Sprint("PDF", i))
		s.Label, s.Numbers[rangeTracking][0], s.Parcels[0].SSCC = carrier.PDF, x.tracking, x.sscc
		doc := must[*carrier.Shipped](t)(c.Ship(ctx, s)).Documents[0]
		want := []string{x.tracking}
		if x.sscc != "" {
			want = append(want, "]C100"+x.sscc)
		}
		var got []string
		for _, picture := range pictures(t, doc.Data) {
			got = append(got, scan(t, picture))
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("read %q, want %q", got, want)
		}
	}
}

// TestAPDFIsTheSameEachTime prints a label whose two codes are of one width.
func TestAPDFIsTheSameEachTime(t *testing.T) {
	c := start(t, t.TempDir())
	defer c.Close()
	s := munich("SAME")
	s.Label, s.Numbers[rangeTracking][0], s.Parcels[0].SSCC = carrier.PDF, "RR473124829FI", "106141412345678908"
	want := must[*carrier.Shipped](t)(c.Ship(ctx, s)).Documents[0].Data
	for range 30 {
		if got := must[*carrier.Shipped](t)(c.Ship(ctx, s)).Documents[0].Data; !bytes.Equal(got, want) {
			t.Fatal("the same label was printed as other bytes")
		}
	}
}

func TestTheManifestsBarcodeIsRead(t *testing.T) {
	c := start(t, t.TempDir())
	c.paper = "letter"
	defer c.Close()
	var refs []string
	for i := range 70 { // more than a page takes
		s := munich(fmt.Sprintf("M%03d", i))
		must[*carrier.Shipped](t)(c.Ship(ctx, s))
		refs = append(refs, s.Reference)
	}
	got := must[*carrier.Manifested](t)(c.Manifest(ctx, &carrier.ManifestRequest{Reference: "DAY", Date: "2026-03-12", From: munich("").From, Shipments: refs}))
	pages := pictures(t, got.Documents[0].Data)
	if len(pages) != 1 || scan(t, pages[0]) != got.Manifest {
		t.Errorf("%d barcodes in manifest %s", len(pages), got.Manifest)
	}
	if n := bytes.Count(got.Documents[0].Data, []byte("/Type /Page\n")); n != 2 {
		t.Errorf("70 parcels take %d pages", n)
	}
}

// field is one ^FO...^FS of a label.
type field struct {
	x, y     int
	commands string
	data     string // with the escapes taken back
}

var zplField = regexp.MustCompile(`^\^FO(\d+),(\d+)((?:\^[A-Z@][^^]*)*?)(?:\^FH_\^FD([^^~]*))?\^FS$`)

// parseZPL takes a label apart, strictly: a line is a field or one of the fixed commands.
func parseZPL(text string) ([]field, error) {
	text, ok := strings.CutPrefix(text, "^XA\n^CI28\n^PW812\n^LL1218\n^LH0,0\n")
	text, end := strings.CutSuffix(text, "^PQ1\n^XZ\n")
	if !ok || !end {
		return nil, fmt.Errorf("no label: %q", text)
	}
	var out []field
	for row := range strings.Lines(text) {
		m := zplField.FindStringSubmatch(strings.TrimSuffix(row, "\n"))
		if m == nil {
			return nil, fmt.Errorf("no field: %q", row)
		}
		f := field{commands: m[3]}
		f.x, _ = strconv.Atoi(m[1])
		f.y, _ = strconv.Atoi(m[2])
		for i := 0; i < len(m[4]); i++ {
			if m[4][i] != '_' {
				f.data += string(m[4][i])
				continue
			}
			b, err := strconv.ParseUint(m[4][i+1:i+3], 16, 8)
			if err != nil {
				return nil, err
			}
			f.data += string([]byte{byte(b)})
			i += 2
		}
		out = append(out, f)
	}
	return out, nil
}

var zplCode = regexp.MustCompile(`^\^BY([1-4])\^BCN,(\d+),N,N,N,N$`)

// bars reads a Code 128 as the printer is told to print it, and how many modules it takes.
func (f field) bars() (text string, modules int, err error) {
	data, symbols := f.data, 0
	switch {
	case strings.HasPrefix(data, ">:"):
		text = data[2:]
		symbols = len(text)
		if strings.Contains(text, ">") {
			err = fmt.Errorf("subset B with a command: %q", data)
		}
	case strings.HasPrefix(data, ">;"):
		digits := data[2:]
		if rest, gs1 := strings.CutPrefix(digits, ">8"); gs1 {
			digits, text, symbols = rest, "]C1", 1
		}
		if len(digits)%2 != 0 || strings.Trim(digits, "0123456789") != "" {
			err = fmt.Errorf("subset C takes pairs of digits: %q", data)
		}
		text += digits
		symbols += len(digits) / 2
	default:
		err = fmt.Errorf("no start code: %q", data)
	}
	return text, 11*(symbols+2) + 13, err
}

// codes are the barcodes of a label, which must fit on it with their quiet zones.
func codes(fields []field) ([]string, error) {
	var out []string
	for _, f := range fields {
		m := zplCode.FindStringSubmatch(f.commands)
		if m == nil {
			continue
		}
		text, modules, err := f.bars()
		if err != nil {
			return nil, err
		}
		module, _ := strconv.Atoi(m[1])
		height, _ := strconv.Atoi(m[2])
		if f.x < quiet*module || f.x+(modules+quiet)*module > labelWidth || f.y+height > labelHeight {
			return nil, fmt.Errorf("code %q at %d,%d leaves the label", text, f.x, f.y)
		}
		if strings.HasPrefix(text, "]C1") && (module != 4 || height < 256) {
			return nil, fmt.Errorf("GS1-128 with bars of %d dots, %d high: too small", module, height)
		}
		out = append(out, text)
	}
	return out, nil
}

func TestBarcodesOfTheZPLAreRead(t *testing.T) {
	c := start(t, t.TempDir())
	for i, x := range []struct{ tracking, sscc, want string }{
		{"Z-0001", "", "[Z-0001]"}, {"6291041500213", "", "[6291041500213]"}, {"123456", "", "[123456]"},
		{"RR473124829FI", "106141412345678908", "[RR473124829FI ]C100106141412345678908]"},
		{"ABCDEFGHIJKLMNOPQRSTUVWXYZ-123", "", "[ABCDEFGHIJKLMNOPQRSTUVWXYZ-123]"},
	} {
		s := munich(fmt.Sprint("ZPL", i))
		s.Numbers[rangeTracking][0], s.Parcels[0].SSCC = x.tracking, x.sscc
		fields := must[[]field](t)(parseZPL(string(must[*carrier.Shipped](t)(c.Ship(ctx, s)).Documents[0].Data)))
		if got, err := codes(fields); err != nil || fmt.Sprint(got) != x.want {
			t.Errorf("read %v, %v; want %s", got, err, x.want)
		}
	}
}

// TestLabelsStayAsTheyAre compares with the label in testdata. UPDATE=1 writes it anew: look at
// it before it is committed.
func TestLabelsStayAsTheyAre(t *testing.T) {
	c := start(t, t.TempDir(), setFont, "E:ANMDJ.TTF")
	s := munich("GOLDEN")
	s.Parcels[0].SSCC, s.Parcels[0].Reference, s.To.Residential = "106141412345678908", "Carton 1", true
	s.COD = &sdk.Money{Amount: decimal.RequireFromString("120.50"), Currency: "EUR"}
	s.Options = map[string]string{"signature": "adult"}
	got := must[*carrier.Shipped](t)(c.Ship(ctx, s)).Documents[0].Data
	name := filepath.Join("testdata", "label.zpl")
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := bytes.ReplaceAll(must[[]byte](t)(os.ReadFile(name)), []byte("\r\n"), []byte("\n"))
	if !bytes.Equal(got, want) {
		t.Errorf("the label is now\n%s", got)
	}
}

func TestTextOfEveryScriptKeepsTheLabelWhole(t *testing.T) {
	c := start(t, t.TempDir())
	c.font = "E:ANMDJ.TTF"
	defer c.Close()
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		text := rapid.OneOf(rapid.String(), rapid.StringMatching(`[A-Za-z^~_\\>, äöüßéÅ株式会社東京한국]{0,60}`), rapid.SampledFrom([]string{
			"^XZ^XA^FDx", "~JA", "_5E", "\\&", "a\x00b\r\nc", strings.Repeat("W", 200), strings.Repeat("株", 60), "\xff\xfe", "\u202eevil"}))
		draw := func(name string) string {
			s := text.Draw(t, name)
			for len(s) > maxText {
				s = s[:len(s)-1]
			}
			return s
		}
		s := munich(fmt.Sprintf("TXT%06d", n))
		s.To.Name, s.To.Company, s.To.Lines, s.Order = draw("name"), draw("company"), []string{draw("line")}, draw("order")
		s.From.Company, s.Parcels[0].Reference = draw("sender"), draw("parcel")
		got, err := c.Ship(ctx, s)
		if err != nil {
			t.Fatal(err)
		}
		fields, err := parseZPL(string(got.Documents[0].Data))
		if err != nil {
			t.Fatal(err)
		}
		if read, err := codes(fields); err != nil || fmt.Sprint(read) != "["+s.Numbers[rangeTracking][0]+"]" {
			t.Fatalf("the code is %v, %v", read, err)
		}
		whole := map[string]bool{}
		for _, f := range fields {
			whole[f.data] = true
		}
		if want := clean(string([]rune(s.To.Name))); len(want) < 20 && want != "" && !whole[want] {
			t.Fatalf("the label lacks the name %q", want)
		}
		s.Label = carrier.PDF
		pdf, err := c.Ship(ctx, s)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(pdf.Documents[0].Data, []byte("%PDF-")) || !bytes.HasSuffix(pdf.Documents[0].Data, []byte("%%EOF\n")) {
			t.Fatal("no whole PDF")
		}
	})
}

func TestWhatAPDFCannotWriteIsTold(t *testing.T) {
	c := start(t, t.TempDir())
	for i, x := range []struct{ name, want string }{
		{"Jörg Groß", ""}, {"Zoë – 5 €", ""}, {"Łukasz", `"?ukasz"`}, {"Dvořák", `"Dvorák"`}, {"株式会社 A", `"???? A"`}, {"Dvor\u030cák", `"Dvorák"`},
	} {
		s := munich(fmt.Sprint("PDF", i))
		s.Label, s.To.Name = carrier.PDF, x.name
		got := must[*carrier.Shipped](t)(c.Ship(ctx, s)).Warnings
		if x.want == "" && len(got) > 0 || x.want != "" && (len(got) != 1 || got[0].Field != "to.name" || !strings.Contains(got[0].Message, x.want)) {
			t.Errorf("%s: warnings %+v, want %s", x.name, got, x.want)
		}
	}
}

func TestZPLWithoutAFontWarnsOfOtherScripts(t *testing.T) {
	for font, want := range map[string]int{"": 1, "E:ANMDJ.TTF": 0} {
		c := start(t, t.TempDir(), setFont, font)
		s := munich("CJK")
		s.To.Name = "株式会社 Groß"
		got := must[*carrier.Shipped](t)(c.Ship(ctx, s))
		if len(got.Warnings) != want || !bytes.Contains(got.Documents[0].Data, []byte("_E6_A0_AA")) {
			t.Errorf("font %q: warnings %+v", font, got.Warnings)
		}
	}
}

func TestLongTextsAreMadeToFit(t *testing.T) {
	for _, c := range []struct {
		text         string
		height, room int
		want         string
		tall         int
	}{
		{"short", 40, 700, "short", 40},
		{strings.Repeat("x", 40), 40, 700, strings.Repeat("x", 40), 34},
		{strings.Repeat("x", 100), 40, 700, strings.Repeat("x", 48) + "...", 26},
		{strings.Repeat("株", 100), 40, 700, strings.Repeat("株", 24) + "...", 26},
	} {
		if tall, got := fit(c.text, c.height, c.room); got != c.want || tall != c.tall {
			t.Errorf("%.10s: %q (%d) at %d; want %q at %d", c.text, got, len(got), tall, c.want, c.tall)
		}
	}
}

// TestTheLargestShipmentFitsIntoAMessage: an answer of more than 4 MB does not reach the host.
func TestTheLargestShipmentFitsIntoAMessage(t *testing.T) {
	const message, some = 4 << 20, 20
	c := start(t, t.TempDir())
	defer c.Close()
	s := munich("LARGE")
	s.Label, s.To.Name, s.To.Company = carrier.PDF, strings.Repeat("株", maxText/3), strings.Repeat("W", maxText)
	p, numbers := s.Parcels[0], []string{}
	s.Parcels = nil
	for i := range some {
		p.SSCC = must[string](t)(checkdigit.Complete(checkdigit.SSCC, fmt.Sprintf("1061414%010d", i)))
		p.Reference = strings.Repeat("株", 20)
		s.Parcels = append(s.Parcels, p)
		numbers = append(numbers, fmt.Sprintf("ABCDEFGHIJKLMNOPQRSTUV-%07d", i))
	}
	s.Numbers[rangeTracking] = numbers
	size := 0
	for _, d := range must[*carrier.Shipped](t)(c.Ship(ctx, s)).Documents {
		size += len(d.Data)
	}
	if most := size / some * maxParcels; most > message*3/4 {
		t.Errorf("%d parcels make an answer of some %d bytes", maxParcels, most)
	}
	s.Parcels = make([]carrier.Parcel, maxParcels+1)
	s.Reference = "TOO MANY"
	_, err := c.Ship(ctx, s)
	wantClass(t, err, sdk.Validation, "parcels")
}

// areas is a canvas that notes where something stands.
type areas []image.Rectangle

func (a *areas) text(x, y, height, width int, _ bool, _, _ string) {
	*a = append(*a, image.Rect(x, y, x+width, y+height))
}

func (a *areas) rule(x, y, width int) { *a = append(*a, image.Rect(x, y, x+width, y+2)) }

func (a *areas) bars(y, height int, _ string, _ bool) error {
	*a = append(*a, image.Rect(0, y, labelWidth, y+height))
	return nil
}

func TestNothingOnALabelOverlaps(t *testing.T) {
	full := sdk.Address{Name: "N", Company: "C", Lines: []string{"1", "2", "3"}, City: "C", PostalCode: "1", Country: "DE", Phone: "1"}
	for _, sscc := range []string{"", "106141412345678908"} {
		var got areas
		p := &bought{Return: true, Tracking: []string{"T"}, SSCC: []string{sscc}}
		p.Shipment = *munich("A")
		p.Shipment.From, p.Shipment.To = full, full
		if err := New(silent).draw(&got, p, 0); err != nil {
			t.Fatal(err)
		}
		if len(got) < 25 {
			t.Errorf("only %d things stand on the label", len(got))
		}
		for i, a := range got {
			if !a.In(image.Rect(0, 0, labelWidth, labelHeight)) {
				t.Errorf("%v leaves the label", a)
			}
			for _, b := range got[:i] {
				if a.Overlaps(b) {
					t.Errorf("%v lies on %v", a, b)
				}
			}
		}
	}
}
