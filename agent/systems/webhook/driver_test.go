package webhookdriver

import (
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/crossdock/crossdock/agent/systems"
	"github.com/crossdock/crossdock/agent/systems/systemstest"
	"github.com/crossdock/crossdock/protocol/event"
	"github.com/crossdock/crossdock/protocol/policy"
)

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

type secrets map[string]string

func (s secrets) Resolve(ref string) ([]byte, error) {
	if value, ok := s[ref]; ok {
		return []byte(value), nil
	}
	return nil, systems.Misconfiguredf("no secret %s", ref)
}

func open(t *testing.T, url string) *Driver {
	t.Helper()
	sys := &policy.System{Meta: policy.Meta{Name: "shop"}, Webhook: &policy.WebhookDriver{
		URL: url, Secret: "file:hook", Hosts: []string{"127.0.0.1"},
	}}
	d, err := New(sys, systems.Options{Secrets: secrets{"file:hook": secret}})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// rotating has a former value of every secret.
type rotating struct {
	secrets
	former string
}

func (r rotating) Former(string) ([]byte, time.Time, bool) {
	return []byte(r.former), time.Time{}, r.former != ""
}

// While the secret is rotated a receiver that knows either verifies the delivery.
func TestTwoSignatures(t *testing.T) {
	const next = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
	for former, signatures := range map[string]int{secret: 2, "": 1, "never-of-use": 1} {
		foreign := systemstest.NewHTTP(t)
		d := open(t, foreign.URL()+"/deliver")
		d.opts.Secrets = rotating{secrets{"file:hook": next}, former}
		if _, err := d.Deliver(t.Context(), systemstest.NewDelivery("x")); err != nil {
			t.Fatal(err)
		}
		request, effect := foreign.Requests()[0], foreign.Effects()[0]
		if got := len(strings.Fields(request.Header.Get(standardwebhooks.HeaderWebhookSignature))); got != signatures {
			t.Errorf("former %q: %d signatures, want %d", former, got, signatures)
		}
		for _, known := range []string{next, former} {
			if known != next && signatures == 1 {
				continue
			}
			hook, err := standardwebhooks.NewWebhook(known)
			if err != nil {
				t.Fatal(err)
			}
			if err := hook.Verify([]byte(effect.Body), request.Header); err != nil {
				t.Errorf("former %q: %v", former, err)
			}
		}
		d.Close()
	}
}

func TestContract(t *testing.T) {
	foreign := systemstest.NewHTTP(t)
	systemstest.Run(t, systemstest.Fixture{
		Foreign:    foreign,
		Operations: []systems.Operation{systems.OpDeliver},
		Open:       func(t *testing.T) systems.Driver { return open(t, foreign.URL()+"/deliver") },
	})
}

func TestSignature(t *testing.T) {
	foreign := systemstest.NewHTTP(t)
	d := open(t, foreign.URL()+"/deliver")
	defer d.Close()
	if _, err := d.Deliver(t.Context(), systemstest.NewDelivery("x")); err != nil {
		t.Fatal(err)
	}
	hook, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	request, effect := foreign.Requests()[0], foreign.Effects()[0]
	if err := hook.Verify([]byte(effect.Body), request.Header); err != nil {
		t.Error(err)
	}
	if err := hook.Verify([]byte(effect.Body+" "), request.Header); err == nil {
		t.Error("another body has the same signature")
	}
	if e, err := event.Unmarshal([]byte(effect.Body)); err != nil || e.ID != "x" {
		t.Errorf("got %v %v", e, err)
	}
}

func TestSecrets(t *testing.T) {
	for ref, value := range map[string]string{"none": "", "plain": "canary-1234", "broken": "whsec_canary!!"} {
		have := secrets{}
		if value != "" {
			have["file:hook"] = value
		}
		sys := &policy.System{Webhook: &policy.WebhookDriver{URL: "https://shop.test", Secret: "file:hook"}}
		d, err := New(sys, systems.Options{Secrets: have})
		if err != nil {
			t.Fatal(err)
		}
		_, err = d.Deliver(t.Context(), systemstest.NewDelivery("x"))
		if systems.ClassOf(err) != systems.Misconfigured || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: got %v, want misconfigured, without the secret", ref, err)
		}
	}
}
