package zone

import (
	"bytes"
	"fmt"
	"strings"

	"golang.org/x/text/width"

	"github.com/crossdock/crossdock/plugins/sdk"
)

// zplLabel draws with Zebra's language. Text goes out as UTF-8 (^CI28), and all that is not
// plain ASCII as hexadecimal bytes (^FH), so that no spooler can recode it and no text can end
// its field.
type zplLabel struct {
	font    string // in the printer; empty: its own
	out     bytes.Buffer
	foreign []sdk.Warning
}

var _ canvas = (*zplLabel)(nil)

func (z *zplLabel) bytes() []byte {
	return fmt.Appendf(nil, "^XA\n^CI28\n^PW%d\n^LL%d\n^LH0,0\n%s^PQ1\n^XZ\n", labelWidth, labelHeight, z.out.Bytes())
}

func (z *zplLabel) warnings() []sdk.Warning { return z.foreign }

func (z *zplLabel) text(x, y, height, room int, _ bool, field, text string) {
	if text = clean(text); text == "" {
		return
	}
	if z.font == "" {
		if foreign := strings.Map(beyondLatin, text); foreign != "" {
			z.foreign = append(z.foreign, sdk.Warning{Code: "label_text", Field: field,
				Message: fmt.Sprintf("the printer's own font may lack %q; name one that has it in the setting %s", foreign, setFont)})
		}
	}
	height, text = fit(text, height, room)
	font := fmt.Sprintf("^A0N,%d,%d", height, height)
	if z.font != "" {
		font = fmt.Sprintf("^A@N,%d,%d,%s", height, height, z.font)
	}
	fmt.Fprintf(&z.out, "^FO%d,%d%s^FH_^FD%s^FS\n", x, y, font, zplEscape(text))
}

// beyondLatin keeps what a printer's own font is not sure to have.
func beyondLatin(r rune) rune {
	if r < 0x250 || r >= 0x2010 && r <= 0x2026 || r == '€' {
		return -1
	}
	return r
}

func (z *zplLabel) rule(x, y, length int) {
	fmt.Fprintf(&z.out, "^FO%d,%d^GB%d,2,2^FS\n", x, y, length)
}

// bars names the subset itself instead of leaving it to the printer, so that the width is
// known: C packs two digits into one symbol, B takes all else.
func (z *zplLabel) bars(y, height int, code string, gs1 bool) error {
	data, symbols := ">:"+code, len(code)
	switch {
	case gs1:
		data, symbols = ">;>800"+code, 1+(2+len(code))/2 // FNC1, then application identifier 00
	case len(code)%2 == 0 && strings.Trim(code, "0123456789") == "":
		data, symbols = ">;"+code, len(code)/2
	}
	modules := 11*(symbols+2) + 13 // with the start and the check symbol, and the stop
	module := moduleWidth(modules, gs1)
	if module == 0 {
		return fmt.Errorf("code %q is too long for the label", code)
	}
	fmt.Fprintf(&z.out, "^FO%d,%d^BY%d^BCN,%d,N,N,N,N^FH_^FD%s^FS\n", (labelWidth-modules*module)/2, y, module, height, zplEscape(data))
	return nil
}

// moduleWidth is the widest bar, in dots, with which a code and its quiet zones fit: at most
// 3, and for GS1-128 4, which is the half millimetre that GS1 asks for; 0: none.
func moduleWidth(modules int, gs1 bool) int {
	most := 3
	if gs1 {
		most = 4
	}
	for most > 0 && (modules+2*quiet)*most > labelWidth {
		most--
	}
	return most
}

// zplEscape writes what would be a command, and all that is not ASCII, as _ and two hex digits.
func zplEscape(text string) string {
	var out strings.Builder
	for _, b := range []byte(text) {
		if b < ' ' || b >= 0x7f || strings.IndexByte(`_^~\`, b) >= 0 {
			fmt.Fprintf(&out, "_%02X", b)
			continue
		}
		out.WriteByte(b)
	}
	return out.String()
}

// fit makes a text fit by a smaller letter, down to two thirds, and then by cutting it. The
// letters of the printer are not known here: half as wide as high is a little more than a
// usual text has, and those of East Asia are square.
func fit(text string, height, room int) (int, string) {
	wide := func(h int) int {
		halves := 0
		for _, r := range text {
			halves += halfWidths(r)
		}
		return halves * (h + 1) / 2
	}
	least := height * 2 / 3
	for height > least && wide(height) > room {
		height--
	}
	if wide(height) <= room {
		return height, text
	}
	halves, left := 0, room*2/(height+1)-3 // three for the dots
	for i, r := range text {
		if halves += halfWidths(r); halves > left {
			return height, text[:i] + "..."
		}
	}
	return height, text
}

func halfWidths(r rune) int {
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}
