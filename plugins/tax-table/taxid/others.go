package taxid

const (
	formGB = `\d{9}|\d{12}|GD[0-4]\d{2}|HA[5-9]\d{2}`
	saysGB = "GB and 9 or 12 digits, or GD or HA and 3 digits"
)

// checkGB is the check of 9 digits; a branch has 3 more. Departments have none.
func checkGB(n string) outcome {
	if len(n) == 5 {
		return none
	}
	check := weighted(n, 8, 7, 6, 5, 4, 3, 2, 10, 1) % 97
	return when(check == 0 || n[0] != '0' && (check == 42 || check == 55))
}

func checkCH(n string) outcome {
	return when((11-weighted(n, 5, 4, 3, 2, 7, 6, 5, 4)%11)%11 == digit(n, 8))
}

// checkAU: the first digit less one, and the sum of weights is a multiple of 89.
func checkAU(n string) outcome {
	return when((weighted(n, 10, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19)-10)%89 == 0)
}

func checkNZ(n string) outcome {
	if len(n) == 8 {
		n = "0" + n
	}
	if n <= "010000000" || n >= "150000000" { // numbers that were given out
		return bad
	}
	check := (11 - weighted(n, 3, 2, 7, 6, 5, 4, 3, 2)%11) % 11
	if check == 10 {
		check = (11 - weighted(n, 7, 4, 3, 2, 5, 2, 7, 6)%11) % 11
	}
	return when(check == digit(n, 8))
}

// checkID: 15 digits hold a check digit, and 16 that begin with 0 are the same with a zero in
// front. Others of 16 are the number of a person's identity card.
func checkID(n string) outcome {
	switch {
	case len(n) == 15:
		return when(luhn(n[:9]) == 0)
	case n[0] == '0':
		return when(luhn(n[:10]) == 0)
	}
	return none
}
