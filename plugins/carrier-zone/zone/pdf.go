package zone

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"strings"
	"time"
	"unicode"

	"github.com/boombuler/barcode/code128"
	"github.com/go-pdf/fpdf"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/unicode/norm"

	"github.com/crossdock/crossdock/plugins/sdk"
)

// maxWarnings is how many texts of one document are told: those of a long manifest are many,
// and an answer must fit into a message.
const maxWarnings = 50

// pdfPage writes with the fonts that every reader of PDF has; they know Windows-1252 and
// nothing more. What they lack is written without its accents, or else as a question mark,
// and told.
type pdfPage struct {
	*fpdf.Fpdf
	images   int
	replaced []sdk.Warning
}

func newPage(size fpdf.SizeType, date string) (*pdfPage, error) {
	made, err := time.Parse(time.DateOnly, date)
	if err != nil {
		return nil, err
	}
	p := &pdfPage{Fpdf: fpdf.NewCustom(&fpdf.InitType{OrientationStr: "P", UnitStr: "mm", Size: size})}
	// The same shipment gives the same bytes, whenever it is printed.
	p.SetCatalogSort(true)
	p.SetCreationDate(made)
	p.SetModificationDate(made)
	p.SetAutoPageBreak(false, 0)
	p.SetMargins(0, 0, 0)
	return p, nil
}

func (p *pdfPage) warnings() []sdk.Warning { return p.replaced }

func (p *pdfPage) bytes() ([]byte, error) {
	var out bytes.Buffer
	err := p.Output(&out)
	return out.Bytes(), err
}

// encode gives a text in Windows-1252.
func (p *pdfPage) encode(field, text string) string {
	var out, lost strings.Builder
	for _, r := range norm.NFC.String(clean(text)) {
		if b, ok := charmap.Windows1252.EncodeRune(r); ok {
			out.WriteByte(b)
			continue
		}
		lost.WriteRune(r)
		out.WriteString(plainLetters(r))
	}
	if lost.Len() > 0 && len(p.replaced) < maxWarnings {
		p.replaced = append(p.replaced, sdk.Warning{Code: "label_text", Field: field,
			Message: fmt.Sprintf("the PDF has no letters for %q and shows %q; bring the text in Latin letters, or print ZPL", lost.String(), decode1252(out.String()))})
	}
	return out.String()
}

// plainLetters gives a letter without its marks, or a question mark.
func plainLetters(r rune) string {
	var out strings.Builder
	for _, part := range norm.NFKD.String(string(r)) {
		if part < unicode.MaxASCII && unicode.IsPrint(part) {
			out.WriteRune(part)
		} else if !unicode.Is(unicode.Mn, part) {
			return "?"
		}
	}
	if out.Len() == 0 {
		return "?"
	}
	return out.String()
}

func decode1252(text string) string {
	var out strings.Builder
	for _, b := range []byte(text) {
		out.WriteRune(charmap.Windows1252.DecodeByte(b))
	}
	return out.String()
}

// write puts one line of text into a box, smaller or cut if it is too long.
func (p *pdfPage) write(x, y, points, room float64, bold bool, field, text string) {
	text = p.encode(field, text)
	if text == "" {
		return
	}
	style := ""
	if bold {
		style = "B"
	}
	size, least := points, points*2/3
	p.SetFont("Helvetica", style, size)
	for p.GetStringWidth(text) > room && size > least {
		size -= 0.5
		p.SetFontSize(size)
	}
	for p.GetStringWidth(text) > room && len(text) > 4 {
		text = strings.TrimSuffix(text, "...")
		text = text[:len(text)-1] + "..."
	}
	p.Text(x, y+size*0.3528*0.78, text) // the base line; a point has 0.3528 mm
}

// picture puts a Code 128 with its quiet zones in the middle of a width, each module so many
// millimetres wide.
func (p *pdfPage) picture(code string, gs1 bool, y, width, height float64, module func(modules int) float64) error {
	// The library orders pictures by their width, and those of one width by chance: each is made
	// a pixel wider than the one before would be, in its white.
	p.images++
	picture, modules, err := code128Image(code, gs1, p.images%pixels)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("code%d", p.images)
	options := fpdf.ImageOptions{ImageType: "PNG"}
	p.RegisterImageOptionsReader(name, options, bytes.NewReader(picture))
	wide := (float64(modules+2*quiet) + float64(p.images%pixels)/pixels) * module(modules)
	p.ImageOptions(name, (width-wide)/2, y, wide, height, false, options, 0, "")
	return p.Error()
}

// pixels is how many of the picture a module is wide: whole ones, so that no bar is blurred.
const pixels = 4

// code128Image draws the bars with white on both sides, and some pixels more of it at the end.
func code128Image(code string, gs1 bool, more int) (text []byte, modules int, err error) {
	if gs1 {
		code = string(code128.FNC1) + "00" + code
	}
	bars, err := code128.Encode(code)
	if err != nil {
		return nil, 0, err
	}
	modules = bars.Bounds().Dx()
	picture := image.NewGray(image.Rect(0, 0, (modules+2*quiet)*pixels+more, 60))
	for x := range picture.Bounds().Dx() {
		shade := color.Gray{Y: 255}
		if m := x/pixels - quiet; m >= 0 && m < modules {
			shade, _ = color.GrayModel.Convert(bars.At(m, 0)).(color.Gray)
		}
		for y := range picture.Bounds().Dy() {
			picture.SetGray(x, y, shade)
		}
	}
	var out bytes.Buffer
	err = png.Encode(&out, picture)
	return out.Bytes(), modules, err
}

// pdfLabel is a page of the label's size.
type pdfLabel struct{ *pdfPage }

var _ canvas = pdfLabel{}

func newPDFLabel(date string) (pdfLabel, error) {
	p, err := newPage(fpdf.SizeType{Wd: mm(labelWidth), Ht: mm(labelHeight)}, date)
	if err != nil {
		return pdfLabel{}, err
	}
	p.AddPage()
	return pdfLabel{p}, nil
}

func mm(dots int) float64 { return float64(dots) / dotsPerMM }

func (l pdfLabel) text(x, y, height, room int, bold bool, field, text string) {
	l.write(mm(x), mm(y), mm(height)/0.3528, mm(room), bold, field, text)
}

func (l pdfLabel) rule(x, y, length int) {
	l.SetLineWidth(mm(2))
	l.Line(mm(x), mm(y), mm(x+length), mm(y))
}

func (l pdfLabel) bars(y, height int, code string, gs1 bool) error {
	return l.picture(code, gs1, mm(y), mm(labelWidth), mm(height), func(modules int) float64 { return mm(moduleWidth(modules, gs1)) })
}

// manifestPDF prints the list of what was handed over, for the driver to sign.
func (c *Carrier) manifestPDF(m *closed, list []*bought) ([]byte, []sdk.Warning, error) {
	size := fpdf.SizeType{Wd: 210, Ht: 297}
	if c.paper == "letter" {
		size = fpdf.SizeType{Wd: 215.9, Ht: 279.4}
	}
	p, err := newPage(size, m.Date)
	if err != nil {
		return nil, nil, err
	}
	const left, step = 15.0, 5.0
	bottom, wide := size.Ht-15, size.Wd-2*left
	p.AliasNbPages("{pages}")
	y := bottom
	columns := []float64{0, 46, 92, 112, 162}
	row := func(bold bool, field string, texts ...string) {
		for i, text := range texts {
			room := wide - columns[i]
			if i+1 < len(texts) {
				room = columns[i+1] - columns[i] - 2
			}
			p.write(left+columns[i], y, 8.5, room, bold, field, text)
		}
		y += step
	}
	next := func() error {
		p.AddPage()
		y = 15
		p.write(left, y, 16, wide, true, "name", c.name+": manifest "+m.Number)
		p.write(left, y+8, 9, wide, false, "reference", fmt.Sprintf("%s   Ref %s   Page %d of {pages}", m.Date, m.Reference, p.PageNo()))
		if p.PageNo() == 1 {
			if err := p.picture(m.Number, false, y+14, size.Wd, 14, func(int) float64 { return 0.375 }); err != nil {
				return err
			}
			y += 18
		}
		y += 14
		row(true, "head", "Shipment", "Tracking", "Service", "To", "Weight")
		return nil
	}
	for _, s := range list {
		for i, number := range s.Tracking {
			if y+step > bottom {
				if err := next(); err != nil {
					return nil, nil, err
				}
			}
			to, w := s.Shipment.To, s.Shipment.Parcels[i].Weight
			row(false, "to of "+s.Shipment.Reference, s.Shipment.Reference, number, s.Shipment.Service,
				to.Name+", "+to.City+" "+to.PostalCode+" "+to.Country, w.Value.String()+" "+w.Unit)
		}
	}
	if y+5*step > bottom {
		if err := next(); err != nil {
			return nil, nil, err
		}
	}
	y += step
	row(true, "sum", fmt.Sprintf("%d shipments, %d parcels", len(list), m.Parcels))
	y += 2 * step
	row(false, "signature", "Handed over by ____________________", "", "Taken over by ____________________")
	text, err := p.bytes()
	return text, p.warnings(), err
}
