package history

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// Silent is what all that a run leaves behind keeps: no secret stands in it, but where it
// has its place.
const Silent Property = "secrets stay in"

// scanned is how much of a file is looked at in one piece.
const scanned = 1 << 20

// CheckSecrets looks for secrets, given by what they are, in all files below a directory,
// but those where home says that one belongs. where is how faults name the directory.
func CheckSecrets(dir fs.FS, where string, secrets map[string]string, home func(file string) bool) (faults []Fault, err error) {
	err = fs.WalkDir(dir, ".", func(file string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // files come and go while programs run
		case err != nil:
			return err
		case !d.Type().IsRegular() || home(file):
			return nil
		}
		f, err := dir.Open(file)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
		defer f.Close() // opened for reading
		found, err := secretsIn(f, secrets)
		for what := range found {
			faults = append(faults, Fault{Silent, fmt.Sprintf("%s: %s stands in %s", where, what, file)})
		}
		return err
	})
	return faults, err
}

// secretsIn tells which secrets stand in a text. Pieces overlap by the longest of them.
func secretsIn(r io.Reader, secrets map[string]string) (found map[string]bool, err error) {
	longest := 0
	for _, text := range secrets {
		longest = max(longest, len(text))
	}
	found = map[string]bool{}
	in, piece, kept := bufio.NewReaderSize(r, scanned), make([]byte, scanned+longest), 0
	for {
		n, err := io.ReadFull(in, piece[kept:])
		text := piece[:kept+n]
		for what, secret := range secrets {
			if bytes.Contains(text, []byte(secret)) {
				found[what] = true
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return found, nil
		} else if err != nil {
			return found, err
		}
		kept = copy(piece, text[max(0, len(text)-longest):])
	}
}
