package systems

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/crossdock/crossdock/deploy/demo/ledger"
)

// Truck is how many parcels a carrier takes over with one manifest; the last takes what is left.
const Truck = 40

// callers is how many calls a system makes at a time.
const callers = 8

// maxAnswer holds a label, or a manifest of a full truck.
const maxAnswer = 4 << 20

// call asks a carrier or a tax engine through the site's agent until there is an answer, or
// ctx ends, and gives the id of the call. The same key makes repeats one call. What is refused
// for good ends the system.
func (s *System) call(ctx context.Context, path, key string, request, into any) (id string, err error) {
	body, err := json.Marshal(request)
	if err != nil {
		return "", err
	}
	retry := backoff.WithContext(backoff.NewExponentialBackOff(backoff.WithInitialInterval(50*time.Millisecond),
		backoff.WithMaxInterval(time.Second), backoff.WithMaxElapsedTime(0)), ctx)
	err = backoff.Retry(func() (err error) {
		id, err = s.callOnce(ctx, path, key, body, into)
		return err
	}, retry)
	if err != nil && ctx.Err() == nil {
		s.fail(fmt.Errorf("%s: %w", s.Name, err))
	}
	return id, err
}

func (s *System) callOnce(ctx context.Context, path, key string, body []byte, into any) (id string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.Agent+path, bytes.NewReader(body))
	if err != nil {
		return "", backoff.Permanent(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+s.IntakeToken)
	if key != "" {
		request.Header.Set("Idempotency-Key", key)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return "", err
	}
	switch code := answer.StatusCode; {
	case code == http.StatusOK:
		if err := json.Unmarshal(text, into); err != nil {
			return "", backoff.Permanent(fmt.Errorf("%s of %s: %w", path, key, err))
		}
		return answer.Header.Get("Crossdock-Call"), nil
	case code == http.StatusAccepted, code == http.StatusTooManyRequests, code >= 500:
		return "", fmt.Errorf("the agent answers %s: %s", answer.Status, text)
	}
	return "", backoff.Permanent(fmt.Errorf("the agent refuses %s of %s: %s %s", path, key, answer.Status, text))
}

// fail ends the system's Run.
func (s *System) fail(err error) {
	select {
	case s.failed <- err:
	default: // it ends already
	}
}

// called writes down a call whose event the site's agent now owes. The agent names an event of
// a call by the call.
func (s *System) called(site, typ, key, id string, seen *ledger.Call) {
	s.write(ledger.Entry{Act: ledger.Sent, ID: id + ".done", Source: "/sites/" + site + "/calls", Type: typ, Key: key, Call: seen})
}

// document gets a document from the site's agent.
func (s *System) document(sum string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Agent+"/v1/documents/"+sum, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+s.IntakeToken)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil || answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("document %s: %s %w", sum, answer.Status, err)
	}
	return text, nil
}

// amount is money as carriers and contracts write it.
type amount struct {
	Amount   string `json:"amount"`
	Currency string `json:"currency"`
}

// taxed is the answer of a tax engine, and the event of it, as far as the demo needs them.
type taxed struct {
	Reference   string  `json:"reference"`
	Status      string  `json:"status"`
	Reason      string  `json:"reason"`
	Provisional bool    `json:"provisional"`
	Currency    string  `json:"currency"`
	Tax         *string `json:"tax"`
}

func (t *taxed) seen() *ledger.Call {
	c := &ledger.Call{Status: t.Status, Provisional: t.Provisional, Currency: t.Currency}
	if t.Tax != nil {
		c.Amount = *t.Tax
	}
	return c
}
