package sdk

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/shopspring/decimal"
)

// Span is a time that passes. Its text is seconds as decimals with an s behind them, as the
// JSON form of proto writes it: 90s, 0.5s.
type Span time.Duration

func (s Span) String() string { return decimal.New(int64(s), -9).String() + "s" }

// MarshalText gives the text.
func (s Span) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// maxSpanText is as long as the text of the longest span.
const maxSpanText = len("-9223372036.854775808s")

// UnmarshalText reads the text.
func (s *Span) UnmarshalText(text []byte) error {
	digits, ok := strings.CutSuffix(string(text), "s")
	err := errors.New("it does not end with s")
	var seconds decimal.Decimal
	if ok && len(text) <= maxSpanText && !strings.ContainsAny(digits, "eE") {
		seconds, err = decimal.NewFromString(digits)
	}
	nanos := seconds.Shift(9)
	if err != nil || !nanos.IsInteger() || nanos.Abs().GreaterThan(decimal.NewFromInt(math.MaxInt64)) {
		return fmt.Errorf("%.32q is no time that passes, such as 90s", text)
	}
	*s = Span(nanos.IntPart())
	return nil
}
