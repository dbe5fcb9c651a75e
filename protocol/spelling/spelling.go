// Package spelling owns how far one name is from another, and which of several was probably meant.
//
// It refuses to know what the names are of. It stands here because policy, configuration and the
// API all suggest names. Its invariant: only equal names are at distance 0.
package spelling

import "strings"

// Nearest finds the name that was probably meant, whatever its case; empty if there is none. Of
// equally near ones it is the first.
func Nearest(name string, known []string) (best string) {
	least := 1 + min(len(name)/3+1, 3)
	for _, candidate := range known {
		if d := Distance(strings.ToLower(name), strings.ToLower(candidate)); d < least {
			best, least = candidate, d
		}
	}
	return best
}

// Distance counts the edits between two names; a swap of neighbours is one.
func Distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
