package taxid

import (
	"strings"
	"testing"
)

// published are valid numbers from the documentation of python-stdnum (read 2026-11-26), with
// the form that documents print and how deep a look they allow.
var published = []struct{ country, kind, number, full, checked string }{
	{"AT", "", "AT U13585627", "ATU13585627", Checksum},
	{"BE", "", "BE 428759497", "BE0428759497", Checksum},
	{"BE", VAT, "BE403019261", "BE0403019261", Checksum},
	{"BG", "", "BG 175 074 752", "BG175074752", Checksum},
	{"CY", "", "CY-10259033P", "CY10259033P", Checksum},
	{"CZ", "", "CZ 25123891", "CZ25123891", Checksum},
	{"CZ", "", "7103192745", "CZ7103192745", Checksum},
	{"CZ", "", "640903926", "CZ640903926", Checksum},
	{"DE", "", "DE 136,695 976", "DE136695976", Checksum},
	{"DK", "", "DK 13585628", "DK13585628", Checksum},
	{"EE", "", "EE 100 931 558", "EE100931558", Checksum},
	{"EE", "", "100594102", "EE100594102", Checksum},
	{"ES", "", "ES B-58378431", "ESB58378431", Checksum},
	{"ES", "", "B64717838", "ESB64717838", Checksum},
	{"ES", "", "J99216582", "ESJ99216582", Checksum},
	{"ES", "", "54362315K", "ES54362315K", Checksum},
	{"ES", "", "X-5253868-R", "ESX5253868R", Checksum},
	{"ES", "", "M-1234567-L", "ESM1234567L", Format},
	{"FI", "", "FI- 2077474-0", "FI20774740", Checksum},
	{"FR", "", "Fr 40 303 265 045", "FR40303265045", Checksum},
	{"FR", "", "23334175221", "FR23334175221", Checksum},
	{"FR", "", "K7399859412", "FRK7399859412", Checksum},
	{"FR", "", "4Z123456782", "FR4Z123456782", Checksum},
	{"GR", "", "EL 094259216", "EL094259216", Checksum},
	{"EL", "", "GR 94259216", "EL094259216", Checksum},
	{"HR", "", "HR 33392005961", "HR33392005961", Checksum},
	{"HU", "", "HU-12892312", "HU12892312", Checksum},
	{"IE", "", "IE 6433435F", "IE6433435F", Checksum},
	{"IE", "", "8D79739I", "IE8D79739I", Checksum},
	{"IT", "", "IT 00743110157", "IT00743110157", Checksum},
	{"LT", "", "119511515", "LT119511515", Checksum},
	{"LT", "", "LT 100001919017", "LT100001919017", Checksum},
	{"LT", "", "100004801610", "LT100004801610", Checksum},
	{"LU", "", "LU 150 274 42", "LU15027442", Checksum},
	{"LV", "", "LV 4000 3521 600", "LV40003521600", Checksum},
	{"LV", "", "161175-19997", "LV16117519997", Format},
	{"MT", "", "MT 1167-9112", "MT11679112", Checksum},
	{"NL", "", "004495445B01", "NL004495445B01", Checksum},
	{"PL", "", "PL 8567346215", "PL8567346215", Checksum},
	{"PT", "", "PT 501 964 843", "PT501964843", Checksum},
	{"RO", "", "RO 185 472 90", "RO18547290", Checksum},
	{"SE", "", "SE 123456789701", "SE123456789701", Checksum},
	{"SI", "", "SI 5022 3054", "SI50223054", Checksum},
	{"SK", "", "SK 202 274 96 19", "SK2022749619", Checksum},
	{"GB", "", "GB 980 7806 84", "GB980780684", Checksum},
	{"GB", "", "GD001", "GBGD001", Format},
	{"XI", "", "XI 980 7806 84", "XI980780684", Checksum},
	{"CH", "", "CHE-100.155.212", "CHE100155212", Checksum},
	{"CH", "uid", "CHE-100.155.212 MWST", "CHE100155212", Checksum},
	{"NO", "", "988 077 917 MVA", "NO988077917", Checksum},
	{"AU", "", "83 914 571 673", "83914571673", Checksum},
	{"AU", "abn", "51 824 753 556", "51824753556", Checksum},
	{"NZ", "", "4909185-0", "NZ49091850", Checksum},
	{"NZ", "ird", "NZ 49-098-576", "NZ49098576", Checksum},
	{"SG", "", "00192200M", "00192200M", Format},
	{"SG", "uen", "197401143C", "197401143C", Format},
	{"SG", GST, "S16FC0121D", "S16FC0121D", Format},
	{"SG", GST, "F00056789H", "F00056789H", Format},
	{"CA", "", "12302 6635", "123026635", Checksum},
	{"CA", "bn", "12302 6635 RC 0001", "123026635RC0001", Checksum},
	{"TH", "", "1-2345-45678-78-1", "1234545678781", Checksum},
	{"TH", "", "0-99-4-000-61772-1", "0994000617721", Checksum},
	{"VN", "", "0100233488", "0100233488", Checksum},
	{"VN", "mst", "0314409058-002", "0314409058002", Checksum},
	{"ID", "", "01.312.166.0-091.000", "013121660091000", Checksum},
	{"ID", "npwp", "016090524017000", "016090524017000", Checksum},
}

func TestPublishedNumbersAreValid(t *testing.T) {
	for _, c := range published {
		got := Check(c.country, c.kind, c.number)
		if got.Status != Valid || got.Number != c.full || got.Checked != c.checked {
			t.Errorf("Check(%s, %q, %q) = %+v, want valid %s by %s", c.country, c.kind, c.number, got, c.full, c.checked)
		}
		if again := Check(got.Country, got.Kind, got.Number); again != got {
			t.Errorf("the number in full %s is read as %+v, want %+v", got.Number, again, got)
		}
	}
}

// A single wrong digit is what check digits are for. Some published checks take a few for
// another number of theirs, and no check covers branches and accounts.
func TestAnyWrongDigitIsFound(t *testing.T) {
	covered := map[string]int{"CA": 9, "VN": 10, "ID": 9, "NL": 11}
	passes := map[string]int{"BG": 1, "CZ": 6, "FR": 4, "LT": 10, "NL": 1, "RO": 7, "GB": 2, "XI": 2, "NZ": 6, "TH": 20}
	for _, c := range published {
		if c.checked != Checksum {
			continue
		}
		full := Check(c.country, c.kind, c.number).Number
		missed := 0
		for i := range full {
			if full[i] < '0' || full[i] > '9' || covered[c.country] > 0 && i >= covered[c.country] {
				continue
			}
			for d := byte('0'); d <= '9'; d++ {
				wrong := full[:i] + string(rune(d)) + full[i+1:]
				if got := Check(c.country, c.kind, wrong); d != full[i] && got.Status == Valid && got.Checked == Checksum {
					missed++
				}
			}
		}
		if missed > passes[c.country] {
			t.Errorf("%s %s: %d wrong digits pass, at most %d do", c.country, full, missed, passes[c.country])
		}
	}
}

func TestPublishedWrongNumbersAreInvalid(t *testing.T) {
	for _, c := range []struct{ country, number string }{
		{"AT", "U13585626"}, {"BE", "431150351"}, {"BG", "175074751"}, {"CY", "10259033Z"}, {"CZ", "25123890"},
		{"DE", "136695978"}, {"DK", "13585627"}, {"EE", "100594103"}, {"ES", "B64717839"}, {"ES", "J99216583"},
		{"FI", "20774741"}, {"FR", "84323140391"}, {"FR", "IO334175221"}, {"GR", "123456781"}, {"HR", "33392005962"},
		{"HU", "12892313"}, {"IE", "6433435E"}, {"IE", "8?79739J"}, {"IT", "00743110158"}, {"LT", "100001919018"},
		{"LU", "15027443"}, {"LV", "40003521601"}, {"MT", "11679113"}, {"NL", "123456789B90"}, {"PL", "8567346216"},
		{"PT", "501964842"}, {"RO", "18547291"}, {"SE", "123456789101"}, {"SI", "50223055"}, {"SK", "2022749618"},
		{"GB", "802311781"}, {"CH", "CHE100155213"}, {"NO", "988077918"}, {"AU", "99999999999"}, {"NZ", "136410133"},
		{"NZ", "9125568"}, {"CA", "123456783"}, {"CA", "12345678Z"}, {"SG", "123456"}, {"TH", "1234545678789"},
		{"VN", "0100233480"}, {"VN", "12345"}, {"ID", "123456789"}, {"ES", ""}, {"DE", "DE"}, {"GB", "GB"},
	} {
		if got := Check(c.country, "", c.number); got.Status != Invalid || got.Message == "" {
			t.Errorf("Check(%s, %q) = %+v, want invalid with a message", c.country, c.number, got)
		}
	}
}

func TestWithoutARuleANumberIsUnknown(t *testing.T) {
	for _, c := range []struct{ country, kind string }{{"BR", ""}, {"DE", "eori"}, {"", ""}, {"US", VAT}} {
		if got := Check(c.country, c.kind, "136695976"); got.Status != Unknown || got.Message == "" {
			t.Errorf("Check(%q, %q) = %+v, want unknown with a message", c.country, c.kind, got)
		}
	}
}

func FuzzCheck(f *testing.F) {
	for _, c := range published {
		f.Add(c.country, c.kind, c.number)
	}
	f.Fuzz(func(t *testing.T, country, kind, number string) {
		got := Check(country, kind, number)
		if got.Status == Valid && strings.ContainsAny(got.Number, " .") {
			t.Errorf("%q is valid as %q", number, got.Number)
		}
	})
}
