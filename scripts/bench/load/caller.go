package load

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Caller calls the plugins of a site, as a system there does.
type Caller struct {
	url    string
	token  string
	client *http.Client
}

// NewCaller makes a caller at an intake's address.
func NewCaller(address, token string) *Caller {
	return &Caller{url: "http://" + address + "/v1/", token: token, client: &http.Client{
		Timeout: time.Minute, Transport: &http.Transport{MaxIdleConns: Outstanding, MaxIdleConnsPerHost: Outstanding}}}
}

// Close lets the connections go.
func (c *Caller) Close() { c.client.CloseIdleConnections() }

// Call asks once and reads the answer. What is not done now is an error. An empty key is none.
func (c *Caller) Call(ctx context.Context, operation, key string, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+operation, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+c.token)
	if key != "" {
		request.Header.Set("Idempotency-Key", key)
	}
	answer, err := c.client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s, key %q: %s: %s", operation, key, answer.Status, text)
	}
	return err
}
