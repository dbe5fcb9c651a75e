package mydhl

// products are DHL Express's global product codes. Which of them goes from one place to
// another, and whether with papers or with goods, the rates tell.
var products = []struct{ code, name string }{
	{"0", "Logistics Services"}, {"1", "Express Domestic 12:00"}, {"2", "B2C"}, {"3", "B2C nondoc"}, {"4", "Jetline"}, {"5", "Sprintline"},
	{"6", "Secureline"}, {"7", "Express Easy"}, {"8", "Express Easy nondoc"}, {"9", "Europack"},
	{"A", "Auto Reversals"}, {"B", "Breakbulk Express"}, {"C", "Medical Express"}, {"D", "Express Worldwide doc"}, {"E", "Express 9:00 nondoc"},
	{"F", "Freight Worldwide"}, {"G", "Domestic Economy Select"}, {"H", "Economy Select nondoc"}, {"I", "Express Domestic 9:00"}, {"J", "Jumbo Box"},
	{"K", "Express 9:00 doc"}, {"L", "Express 10:30 doc"}, {"M", "Express 10:30 nondoc"}, {"N", "Express Domestic"}, {"O", "Express Domestic 10:30"},
	{"P", "Express Worldwide nondoc"}, {"Q", "Medical Express nondoc"}, {"R", "GlobalMail Business"}, {"S", "Same Day"}, {"T", "Express 12:00 doc"},
	{"U", "Express Worldwide EU"}, {"V", "Europack nondoc"}, {"W", "Economy Select"}, {"X", "Express Envelope"}, {"Y", "Express 12:00 nondoc"},
	{"Z", "Destination Charges"},
}

// productName is empty for a code that nobody knows.
func productName(code string) string {
	for _, p := range products {
		if p.code == code {
			return p.name
		}
	}
	return ""
}
