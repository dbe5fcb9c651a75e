package transport

import "strings"

// several are failures of which none alone is the cause. They stand on one line, for they
// end in a log, and in a row of a table.
type several []error

// together joins errors; nil if there are none.
func together(errs ...error) error {
	switch len(errs) {
	case 0:
		return nil
	case 1:
		return errs[0]
	}
	return several(errs)
}

func (s several) Error() string {
	words := make([]string, len(s))
	for i, err := range s {
		words[i] = err.Error()
	}
	return strings.Join(words, "; ")
}

func (s several) Unwrap() []error { return s }
