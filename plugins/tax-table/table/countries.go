package table

import (
	"fmt"
	"strings"

	"github.com/crossdock/crossdock/plugins/sdk"
)

// isoCountries are the codes of ISO 3166-1.
const isoCountries = " AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ" +
	" CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR" +
	" GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP" +
	" KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ" +
	" NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW" +
	" SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ" +
	" UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW "

// meant are codes that other lists have for a country.
var meant = map[string]string{"EL": "GR", "UK": "GB"}

// code is the country of an address.
func code(a *sdk.Address) string { return strings.ToUpper(strings.TrimSpace(a.Country)) }

func stateOf(a *sdk.Address) string { return strings.ToUpper(strings.TrimSpace(a.State)) }

// noCountry says why an address names none; empty: it does. A country that is not there would
// be taken for one that goods are exported to.
func (t *Tables) noCountry(a *sdk.Address) string {
	c := code(a)
	switch {
	case t.countries[c] != nil || len(c) == 2 && strings.Contains(isoCountries, " "+c+" "):
		return ""
	case c == "":
		return "an address that decides names no country"
	case meant[c] != "":
		return fmt.Sprintf("%s is no ISO 3166 country code: say %s", c, meant[c])
	}
	return fmt.Sprintf("%q is no ISO 3166 country code", a.Country)
}

// special says why the table does not know the taxes of an address in the country: it is in a
// part with taxes of its own, or may be; empty: neither.
func (c *country) special(a *sdk.Address) string {
	if code(a) != c.Code { // a place that the country covers
		return ""
	}
	state := stateOf(a)
	postal := strings.NewReplacer(" ", "", "-", "").Replace(strings.ToUpper(a.PostalCode))
	postal = strings.TrimPrefix(postal, c.Code)
	open := ""
	for _, part := range c.Apart {
		if part.holds(state, postal) {
			return "the tables do not know the taxes of " + part.Name
		}
		if open == "" && part.undecided(state, postal) {
			open = part.Name
		}
	}
	if open == "" {
		return ""
	}
	what := "postal code"
	if postal != "" {
		what = "state"
	}
	return fmt.Sprintf("the address in %s names no %s, which decides whether it is in %s with its own taxes", c.Code, what, open)
}

func (p *apart) holds(state, postal string) bool {
	for _, s := range p.States {
		if s == state {
			return true
		}
	}
	for _, begin := range p.Postal {
		if strings.HasPrefix(postal, begin) {
			return true
		}
	}
	return false
}

// undecided tells whether an address that is not known to be there may be. Where postal codes
// tell, only they do: a state may be written in many ways.
func (p *apart) undecided(state, postal string) bool {
	if len(p.Postal) == 0 {
		return state == ""
	}
	for _, begin := range p.Postal {
		if strings.HasPrefix(begin, postal) {
			return true
		}
	}
	return false
}
