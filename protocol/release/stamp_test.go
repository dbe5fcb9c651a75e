package release

import (
	"bytes"
	"strings"
	"testing"
	"testing/iotest"
)

func TestStampIsFoundInAProgram(t *testing.T) {
	stamp := "crossdock-release:v1.4.0-rc.1:of-this-program" // as Makefile and scripts/release have it
	if got := Stamped(stamp); got != "v1.4.0-rc.1" {
		t.Errorf("the stamp says %q", got)
	}
	for _, none := range []string{"", "v1.4.0", stampHead + "v1.4.0", "v1.4.0" + stampTail} {
		if got := Stamped(none); got != "" {
			t.Errorf("%q says %q", none, got)
		}
	}
	// A program that reads stamps has what they are made of, and that is none.
	code := strings.Repeat("x", 100) + stampHead + "did you mean" + stampTail + stampHead + strings.Repeat("y", MaxVersion+1) + stampTail
	for _, before := range []int{0, 1<<20 - 60, 1<<20 - 10, 1 << 20, 5<<20 + 7} {
		program := append(bytes.Repeat([]byte{0xff}, before), code+stamp+code...)
		if got, err := ReadStamp(bytes.NewReader(program)); got != "v1.4.0-rc.1" || err != nil {
			t.Errorf("%d bytes before it: %q, %v", before, got, err)
		}
		if got, err := ReadStamp(bytes.NewReader(append(program[:before], code...))); got != "" || err != nil {
			t.Errorf("a program without a stamp: %q, %v", got, err)
		}
	}
	if _, err := ReadStamp(iotest.ErrReader(iotest.ErrTimeout)); err == nil {
		t.Error("a file that cannot be read passes as one without a stamp")
	}
}
