// Package webhookdriver owns deliveries to a system that takes webhooks signed by the
// Standard Webhooks specification.
//
// It refuses to know retry, order and mapping. Its invariant: the webhook-id is the
// idempotency key, so every attempt of one delivery is recognised as the same message, and
// what is signed is exactly what is sent.
package webhookdriver

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/crossdock/crossdock/agent/systems"
	"github.com/crossdock/crossdock/agent/systems/exchange"
	"github.com/crossdock/crossdock/protocol/policy"
)

// secretPrefix marks a signing secret of the specification.
const secretPrefix = "whsec_"

// Driver is one webhook endpoint. It is safe for concurrent use.
type Driver struct {
	spec   policy.WebhookDriver
	url    *url.URL
	client *exchange.Client
	opts   systems.Options
}

var (
	_ systems.Driver    = (*Driver)(nil)
	_ systems.Examiner  = (*Driver)(nil)
	_ systems.Deliverer = (*Driver)(nil)
)

// New makes the driver of a System document. It connects to nothing.
func New(sys *policy.System, opts systems.Options) (*Driver, error) {
	if sys.Webhook == nil {
		return nil, systems.Misconfiguredf("system %s has no webhook driver", sys.Name)
	}
	d := &Driver{spec: *sys.Webhook, opts: opts.WithDefaults()}
	u, err := exchange.ParseURL(d.spec.URL)
	if err != nil {
		return nil, fmt.Errorf("system %s: %w", sys.Name, err)
	}
	d.url = u
	d.client, err = exchange.New(exchange.Config{
		URLs: []string{d.spec.URL}, Hosts: d.spec.Hosts, CA: d.spec.CA,
		Secrets: d.opts.Secrets, Resolver: d.opts.Resolver, Now: d.opts.Now,
	})
	if err != nil {
		return nil, fmt.Errorf("system %s: %w", sys.Name, err)
	}
	return d, nil
}

// Operations is systems.Driver: a webhook takes deliveries and nothing else.
func (d *Driver) Operations() []systems.Operation { return []systems.Operation{systems.OpDeliver} }

// Check is systems.Driver: secrets, name, connection and certificate, without a request.
func (d *Driver) Check(ctx context.Context) error {
	return systems.CheckFindings(d.Examine(ctx))
}

// Examine is systems.Examiner.
func (d *Driver) Examine(ctx context.Context) []systems.Finding {
	findings, elsewhere := exchange.ExamineSecrets(d.opts.Secrets, d.spec.Secret, d.spec.CA)
	if elsewhere {
		return findings
	}
	return append(findings, d.client.Examine(ctx, d.url)...)
}

// Close lets idle connections go.
func (d *Driver) Close() error { return d.client.Close() }

// Deliver is systems.Deliverer: a CloudEvent in structured JSON, signed anew for each
// attempt, since the signature holds the time.
func (d *Driver) Deliver(ctx context.Context, del systems.Delivery) (systems.Answer, error) {
	keys, err := d.keys()
	if err != nil {
		return systems.Answer{}, err
	}
	body, err := del.Mapped().Marshal()
	if err != nil {
		return systems.Answer{}, systems.Rejectedf("the event cannot be written: %w", err)
	}
	now := d.opts.Now()
	var signatures []string
	var secrets [][]byte
	for _, k := range keys {
		signature, err := k.signer.Sign(del.IdempotencyKey, now, body)
		if err != nil {
			return systems.Answer{}, systems.Misconfiguredf("the delivery cannot be signed with secret %s", d.spec.Secret)
		}
		signatures = append(signatures, signature)
		secrets = append(secrets, k.secret, []byte(strings.TrimPrefix(string(k.secret), secretPrefix)))
	}
	header := http.Header{}
	header.Set("Content-Type", "application/cloudevents+json; charset=utf-8")
	header.Set(standardwebhooks.HeaderWebhookID, del.IdempotencyKey)
	header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	header.Set(standardwebhooks.HeaderWebhookSignature, strings.Join(signatures, " "))
	reply, err := d.client.Do(ctx, exchange.Request{
		Method: http.MethodPost, URL: d.url, Header: header, Body: body, Effect: true, Partial: true,
		Secrets: secrets,
	})
	if err != nil {
		return systems.Answer{}, err
	}
	return systems.Answer{Status: reply.Status, Body: reply.Body, Detail: "POST " + d.url.Host + d.url.EscapedPath()}, nil
}

// key is a signing secret.
type key struct {
	secret []byte
	signer *standardwebhooks.Webhook
}

// keys reads the secret at each delivery, so that a rotated one is used at once. While the
// former is valid beside it the delivery bears the signatures of both, as the specification
// has it: the receiver may know either.
func (d *Driver) keys() ([]key, error) {
	secret, err := d.opts.Secrets.Resolve(d.spec.Secret)
	if err != nil {
		return nil, systems.Misconfiguredf("signing secret: %w", err)
	}
	newest, err := d.key(secret)
	if err != nil {
		return nil, err
	}
	keys := []key{newest}
	if former := systems.FormerOf(d.opts.Secrets, d.spec.Secret); former != nil {
		if one, err := d.key(former); err == nil { // one that was never of use is left out
			keys = append(keys, one)
		}
	}
	return keys, nil
}

func (d *Driver) key(secret []byte) (key, error) {
	if !strings.HasPrefix(string(secret), secretPrefix) {
		return key{}, systems.Misconfiguredf("signing secret %s does not begin with %s", d.spec.Secret, secretPrefix)
	}
	signer, err := standardwebhooks.NewWebhook(string(secret))
	if err != nil {
		return key{}, systems.Misconfiguredf("signing secret %s is not base64 after %s", d.spec.Secret, secretPrefix)
	}
	return key{secret, signer}, nil
}
