package intake

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/labstack/echo/v4"
)

// Limits of a request for numbers.
const (
	maxNumbersBody   = 4 << 10
	maxReference     = 100
	maxNumbersAtOnce = 1000
)

// What Numbers answers where it gives none; adapters map their own.
var (
	ErrNoRange     = errors.New("this site takes from no such number range")
	ErrNoNumbers   = errors.New("there are no numbers to give now")
	ErrOtherNumber = errors.New("the reference was given another count of numbers")
)

// Number is one number of a range, and as it is printed.
type Number struct {
	Serial uint64 `json:"serial"`
	Text   string `json:"text"`
}

// Numbers gives numbers of the ranges that were leased to this site, whether the line is cut
// or not. The same reference gets the same numbers again.
type Numbers interface {
	Take(name, reference string, count int) ([]Number, error)
}

// numbersAsked is what a system asks for.
type numbersAsked struct {
	Reference string `json:"reference"` // the system's own, such as a shipment and its parcel
	Count     int    `json:"count"`     // default 1
}

// takeNumbers gives a system of this site numbers to print.
func (s *Service) takeNumbers(c echo.Context, at session) error {
	now := s.parts.Now()
	p := at.caller.limiter.take(now, 1, 0)
	at.caller.limiter.describe(now, c.Response().Header())
	if p != nil {
		return p
	}
	body, p := readBody(c.Request(), maxNumbersBody)
	if p != nil {
		return p
	}
	if !utf8.Valid(body) { // decoded, two references could be one
		return problem(CodeInvalidRequest, "the request is not UTF-8")
	}
	asked := numbersAsked{Count: 1}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&asked); err != nil {
		return problem(CodeInvalidRequest, `write {"reference": "shipment 4711, parcel 1", "count": 1}`).because(err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return problem(CodeInvalidRequest, "there is something behind the request")
	}
	if strings.ContainsRune(asked.Reference, utf8.RuneError) { // likewise of half a character, written as an escape
		return problem(CodeInvalidRequest, "the reference has a character that is none (U+FFFD)")
	}
	if asked.Reference == "" || len(asked.Reference) > maxReference || asked.Count < 1 || asked.Count > maxNumbersAtOnce {
		return problem(CodeInvalidRequest, "reference has 1 to %d bytes, count is 1 to %d", maxReference, maxNumbersAtOnce)
	}
	name := c.Param("range")
	// A system's references are its own: no slash is in the name of a system.
	given, err := s.parts.Numbers.Take(name, at.caller.system.Name+"/"+asked.Reference, asked.Count)
	switch {
	case errors.Is(err, ErrNoRange):
		return problem(CodeNotFound, "%v", err).because(err)
	case errors.Is(err, ErrOtherNumber):
		return problem(CodeReference, "%v", err).because(err)
	case errors.Is(err, ErrNoNumbers):
		return problem(CodeNoNumbers, "%v", err).because(err)
	case err != nil:
		return problem(CodeInternal, "the numbers could not be taken for good: see the agent's log").because(err)
	}
	return c.JSON(http.StatusOK, map[string]any{"range": name, "numbers": given})
}
