package wire

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/sdkpb"
)

func TestATypeAndItsMessageHaveTheSameFields(t *testing.T) {
	for name, use := range map[string]func() error{
		"Extra": func() error {
			return Encode(&sdkpb.Warning{}, struct{ Code, Message, Field, Extra string }{})
		},
		"field": func() error {
			return Decode(&struct{ Code, Message string }{}, &sdkpb.Warning{})
		},
	} {
		func() {
			defer func() {
				cause, _ := recover().(string)
				if !strings.Contains(cause, name) {
					t.Errorf("want a panic that names %s, got %q", name, cause)
				}
			}()
			t.Errorf("%s is forgotten: %v", name, use())
		}()
	}
}

func TestAFaultHasItsPlace(t *testing.T) {
	err := Decode(&Configuration{}, &sdkpb.ConfigureRequest{Settings: map[string]string{}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		err  error
		want string
	}{
		{within("parcels", at(1, within("weight", within("value", errTest)))), "parcels[1].weight.value: odd"},
		{within("numbers", at("sscc", at(2, errTest))), "numbers[sscc][2]: odd"},
	} {
		if c.err.Error() != c.want {
			t.Errorf("got %s, want %s", c.err, c.want)
		}
	}
}

type testError string

func (e testError) Error() string { return string(e) }

const errTest = testError("odd")

func TestTimesThatCannotBeAreRefused(t *testing.T) {
	err := Decode(&sdk.Error{}, &sdkpb.Error{RetryAfter: &durationpb.Duration{Seconds: 1 << 60}})
	if err == nil || !strings.HasPrefix(err.Error(), "retryAfter: ") {
		t.Errorf("got %v", err)
	}
	e := &sdk.Error{}
	if err := Decode(e, &sdkpb.Error{Class: "throttled", RetryAfter: &durationpb.Duration{Seconds: 90 * 24 * 3600}}); err != nil {
		t.Fatal(err)
	}
	if e.RetryAfter != sdk.Span(7*24*time.Hour) || e.Class != sdk.Throttled {
		t.Errorf("got %+v", e)
	}
}

func TestAnErrorIsCutBeforeItIsSent(t *testing.T) {
	m := &sdkpb.Error{}
	if err := Encode(m, &sdk.Error{Class: "own", Message: strings.Repeat("x", 2*sdk.MaxMessage)}); err != nil {
		t.Fatal(err)
	}
	if len(m.GetMessage()) != sdk.MaxMessage || m.GetClass() != string(sdk.Internal) {
		t.Errorf("%d bytes, class %q", len(m.GetMessage()), m.GetClass())
	}
}
