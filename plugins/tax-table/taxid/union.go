package taxid

import (
	"regexp"
	"strings"
)

// rules are the countries whose numbers are known. The algorithms are those that the
// authorities publish, as collected in the documentation of python-stdnum, whose examples are
// the tests.
var rules = map[string][]rule{
	"AT": vat("AT", `U\d{8}`, "ATU and 8 digits", checkAT),
	"BE": padded(vat("BE", `[01]\d{9}`, "BE and 10 digits", checkBE), 10),
	"BG": vat("BG", `\d{9,10}`, "BG and 9 or 10 digits", checkBG),
	"CY": vat("CY", `\d{8}[A-Z]`, "CY, 8 digits and a letter", checkCY),
	"CZ": vat("CZ", `\d{8,10}`, "CZ and 8 to 10 digits", checkCZ),
	"DE": vat("DE", `[1-9]\d{8}`, "DE and 9 digits", func(n string) outcome { return when(mod1110(n) == 1) }),
	"DK": vat("DK", `[1-9]\d{7}`, "DK and 8 digits", func(n string) outcome { return when(weighted(n, 2, 7, 6, 5, 4, 3, 2, 1)%11 == 0) }),
	"EE": vat("EE", `\d{9}`, "EE and 9 digits", func(n string) outcome { return when(weighted(n, 3, 7, 1, 3, 7, 1, 3, 7, 1)%10 == 0) }),
	"ES": vat("ES", `[A-Z0-9]\d{7}[A-Z0-9]`, "ES and 9 characters, the first or the last a letter", checkES),
	"FI": vat("FI", `\d{8}`, "FI and 8 digits", func(n string) outcome { return when(weighted(n, 7, 9, 10, 5, 8, 4, 2, 1)%11 == 0) }),
	"FR": vat("FR", `[0-9A-HJ-NP-Z]{2}\d{9}`, "FR, 2 letters or digits and 9 digits", checkFR),
	"GR": padded([]rule{{kinds: []string{VAT}, prefixes: []string{"EL", "GR"}, form: form(`\d{9}`), says: "EL and 9 digits", check: checkGR}}, 9),
	"HR": vat("HR", `\d{11}`, "HR and 11 digits", func(n string) outcome { return when(mod1110(n) == 1) }),
	"HU": vat("HU", `\d{8}`, "HU and 8 digits", func(n string) outcome { return when(weighted(n, 9, 7, 3, 1, 9, 7, 3, 1)%10 == 0) }),
	"IE": vat("IE", `\d{7}[A-W][A-IW]?|\d[A-Z+*]\d{5}[A-W]`, "IE, 7 digits and 1 or 2 letters", checkIE),
	"IT": vat("IT", `\d{11}`, "IT and 11 digits", checkIT),
	"LT": vat("LT", `\d{7}1\d|\d{10}1\d`, "LT and 9 or 12 digits, the last but one a 1", checkLT),
	"LU": vat("LU", `\d{8}`, "LU and 8 digits", func(n string) outcome { return when(modulo(n[:6], 89) == modulo(n[6:], 100)) }),
	"LV": vat("LV", `\d{11}`, "LV and 11 digits", checkLV),
	"MT": vat("MT", `[1-9]\d{7}`, "MT and 8 digits", func(n string) outcome { return when(weighted(n, 3, 4, 6, 7, 8, 9, 10, 1)%37 == 0) }),
	"NL": vat("NL", `\d{9}B\d{2}`, "NL, 9 digits, B and 2 digits", checkNL),
	"PL": vat("PL", `\d{10}`, "PL and 10 digits", func(n string) outcome { return when(weighted(n, 6, 5, 7, 2, 3, 4, 5, 6, 7)%11 == digit(n, 9)) }),
	"PT": vat("PT", `[1-9]\d{8}`, "PT and 9 digits", func(n string) outcome { return when((11-falling(n[:8], 9)%11)%11%10 == digit(n, 8)) }),
	"RO": vat("RO", `[1-9]\d{1,9}`, "RO and 2 to 10 digits", checkRO),
	"SE": vat("SE", `\d{10}01`, "SE and 12 digits, the last 01", func(n string) outcome { return when(luhn(n[:10]) == 0) }),
	"SI": vat("SI", `[1-9]\d{7}`, "SI and 8 digits", checkSI),
	"SK": vat("SK", `[1-9]\d[2-4789]\d{7}`, "SK and 10 digits", func(n string) outcome { return when(modulo(n, 11) == 0) }),

	"GB": {{kinds: []string{VAT}, prefixes: []string{"GB"}, form: form(formGB), says: saysGB, check: checkGB}},
	"XI": {{kinds: []string{VAT}, prefixes: []string{"XI", "GB"}, form: form(formGB), says: saysGB, check: checkGB}},
	"CH": {{kinds: []string{VAT, "uid"}, prefixes: []string{"CHE"}, suffixes: []string{"MWST", "TVA", "IVA", "VAT"}, form: form(`\d{9}`), says: "CHE and 9 digits", check: checkCH}},
	"NO": {{kinds: []string{VAT, "mva"}, prefixes: []string{"NO"}, suffixes: []string{"MVA"}, form: form(`\d{9}`), says: "9 digits and MVA",
		check: func(n string) outcome { return when(weighted(n, 3, 2, 7, 6, 5, 4, 3, 2, 1)%11 == 0) }}},

	"AU": {{kinds: []string{GST, "abn"}, form: form(`[1-9]\d{10}`), says: "11 digits (ABN)", check: checkAU}},
	"NZ": {{kinds: []string{GST, "ird"}, prefixes: []string{"NZ"}, form: form(`\d{8,9}`), says: "8 or 9 digits (IRD)", check: checkNZ}},
	"SG": {{kinds: []string{GST, "uen"}, form: form(`\d{8}[A-Z]|\d{9}[A-Z]|[RST]\d{2}[A-Z]{2}\d{4}[A-Z]|F000\d{5}[A-Z]|M[A-Z0-9]\d{7}[A-Z]`), says: "a UEN of 9 or 10 characters, or M and 9 characters"}},
	"CA": {
		{kinds: []string{GST, "hst", "bn"}, form: form(`\d{9}(R[CMPT]\d{4})?`), says: "9 digits, and RT and 4 digits of the account", check: func(n string) outcome { return when(luhn(n[:9]) == 0) }},
		{kinds: []string{QST}, form: form(`\d{10}TQ\d{4}`), says: "10 digits, TQ and 4 digits"},
	},
	"JP": {{kinds: []string{GST, VAT, "jct"}, prefixes: []string{"T"}, form: form(`\d{13}`), says: "T and 13 digits"}},
	"TH": {{kinds: []string{VAT, TIN}, form: form(`\d{13}`), says: "13 digits", check: func(n string) outcome { return when((11-falling(n[:12], 13)%11)%10 == digit(n, 12)) }}},
	"VN": {{kinds: []string{VAT, TIN, "mst"}, form: form(`\d{10}(\d{3})?`), says: "10 digits, and 3 of the branch",
		check: func(n string) outcome { return when(10-weighted(n, 31, 29, 23, 19, 17, 13, 7, 5, 3)%11 == digit(n, 9)) }}},
	"ID": {{kinds: []string{VAT, TIN, "npwp"}, form: form(`\d{15,16}`), says: "15 or 16 digits (NPWP)", check: checkID}},
	"PH": {{kinds: []string{VAT, TIN}, form: form(`\d{9}(\d{3}|\d{5})?`), says: "9 digits, and 3 or 5 of the branch"}},
	"MY": {{kinds: []string{"sst", VAT}, form: form(`[A-Z]\d{14}`), says: "a letter and 14 digits"}},
	"US": {{kinds: []string{TIN, "ein"}, form: form(`\d{9}`), says: "9 digits (EIN)"}},
}

func form(body string) *regexp.Regexp { return regexp.MustCompile(`^(?:` + body + `)$`) }

func vat(prefix, body, says string, check func(string) outcome) []rule {
	return []rule{{kinds: []string{VAT}, prefixes: []string{prefix}, form: form(body), says: says, check: check}}
}

func padded(r []rule, digits int) []rule {
	r[0].pad = digits
	return r
}

func checkAT(n string) outcome { return when((16-luhn(n[1:8]))%10 == digit(n, 8)) }

func checkBE(n string) outcome {
	return when(modulo(n, 100_000_000_000) > 0 && (modulo(n[:8], 97)+modulo(n[8:], 97))%97 == 0)
}

func checkBG(n string) outcome {
	if len(n) == 9 {
		check := weighted(n, 1, 2, 3, 4, 5, 6, 7, 8) % 11
		if check == 10 {
			check = weighted(n, 3, 4, 5, 6, 7, 8, 9, 10) % 11
		}
		return when(check%10 == digit(n, 8))
	}
	person := weighted(n, 2, 4, 8, 5, 10, 9, 7, 3, 6) % 11 % 10
	foreigner := weighted(n, 21, 19, 17, 13, 11, 9, 7, 3, 1) % 10
	other := (11 - weighted(n, 4, 3, 2, 7, 6, 5, 4, 3, 2)%11) % 11
	last := digit(n, 9)
	return when(person == last || foreigner == last || other == last)
}

func checkCY(n string) outcome {
	odd := [10]int{1, 0, 5, 7, 9, 13, 15, 17, 19, 21}
	sum := 0
	for i := range 8 {
		if i%2 == 0 {
			sum += odd[digit(n, i)]
		} else {
			sum += digit(n, i)
		}
	}
	return when(!strings.HasPrefix(n, "12") && n[8] == byte('A'+sum%26))
}

func checkCZ(n string) outcome {
	switch {
	case len(n) == 8:
		check := (11 - falling(n[:7], 8)%11) % 11
		if check == 0 {
			check = 1
		}
		return when(n[0] != '9' && check%10 == digit(n, 7))
	case len(n) == 9 && n[0] == '6':
		check := (8 - (10-falling(n[1:8], 8)%11)%11) % 10
		return when((check+10)%10 == digit(n, 8))
	case len(n) == 9: // birth numbers from before 1954
		return none
	}
	return when(modulo(n[:9], 11)%10 == digit(n, 9))
}

func checkES(n string) outcome {
	const letters = "TRWAGMYFPDXBNJZSQVHLCKE"
	switch first := n[0]; {
	case first >= '0' && first <= '9':
		return when(n[8] == letters[modulo(n[:8], 23)])
	case first >= 'X' && first <= 'Z':
		return when(n[8] == letters[modulo(string('0'+first-'X')+n[1:8], 23)])
	case strings.IndexByte("ABCDEFGHJNPQRSUVW", first) >= 0:
		check := (10 - luhn(n[1:8]+"0")) % 10
		return when(n[8] == byte('0'+check) || n[8] == "JABCDEFGHI"[check])
	}
	return none
}

func checkFR(n string) outcome {
	if n[2:5] != "000" && luhn(n[2:]) != 0 { // Monaco's begin with 000
		return bad
	}
	const alphabet = "0123456789ABCDEFGHJKLMNPQRSTUVWXYZ"
	first, second := strings.IndexByte(alphabet, n[0]), strings.IndexByte(alphabet, n[1])
	if first < 10 && second < 10 {
		return when(modulo(n[:2], 97) == modulo(n[2:]+"12", 97) && modulo(n[:2], 100) < 97)
	}
	check := first*34 + second - 100
	if first < 10 {
		check = first*24 + second - 10
	}
	return when((modulo(n[2:], 11)+1+check/11)%11 == check%11)
}

func checkGR(n string) outcome {
	sum := 0
	for i := range 8 {
		sum = sum*2 + digit(n, i)
	}
	return when(sum*2%11%10 == digit(n, 8))
}

func checkIE(n string) outcome {
	const alphabet = "WABCDEFGHIJKLMNOPQRSTUV"
	if n[1] < '0' || n[1] > '9' { // numbers from before 2013
		return when(n[7] == alphabet[falling("0"+n[2:7]+n[:1], 8)%23])
	}
	sum := falling(n[:7], 8)
	if len(n) == 9 {
		sum += 9 * strings.IndexByte(alphabet, n[8])
	}
	return when(n[7] == alphabet[sum%23])
}

func checkIT(n string) outcome {
	province := modulo(n[7:10], 1000)
	known := province >= 1 && province <= 100 || province == 120 || province == 121 || province == 888 || province == 999
	return when(known && n[:7] != "0000000" && luhn(n) == 0)
}

func checkLT(n string) outcome {
	sum := func(shift int) int {
		total := 0
		for i := range len(n) - 1 {
			total += digit(n, i) * (1 + (i+shift)%9)
		}
		return total % 11
	}
	check := sum(0)
	if check == 10 {
		check = sum(2)
	}
	return when(check%10 == digit(n, len(n)-1))
}

func checkLV(n string) outcome {
	if n[0] <= '3' { // personal codes
		return none
	}
	return when(weighted(n, 9, 1, 4, 8, 3, 10, 2, 5, 7, 6, 1)%11 == 3)
}

func checkNL(n string) outcome {
	elevens := falling(n[:8], 9) - digit(n, 8)
	number := modulo(n[:9], 1_000_000_000) > 0 && elevens%11 == 0
	return when(n[10:] != "00" && (number || modulo("2321"+n[:9]+"11"+n[10:], 97) == 1))
}

func checkRO(n string) outcome {
	body := strings.Repeat("0", 10-len(n)) + n
	return when(10*weighted(body, 7, 5, 3, 2, 1, 7, 5, 3, 2)%11%10 == digit(body, 9))
}

func checkSI(n string) outcome {
	check := 11 - falling(n[:7], 8)%11
	return when(check == digit(n, 7) || check == 10 && n[7] == '0')
}
