package transport

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"time"

	"connectrpc.com/connect"
)

// RawCall sends bytes as the body of a unary call, past the client's own limits.
func RawCall(ctx context.Context, s *Session, procedure string, body []byte) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.path.base+procedure, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/proto")
	r.Header.Set("Connect-Protocol-Version", "1")
	resp, err := s.path.client.RoundTrip(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode == http.StatusOK {
		return err
	}
	var answer struct {
		Code    connect.Code
		Message string
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return err
	}
	return connect.NewError(answer.Code, io.EOF)
}

// SetStrangerTime changes how long a call without a certificate may take to arrive.
func (s *Server) SetStrangerTime(d time.Duration) { s.strangerTime.Store(int64(d)) }

// SetQuickAttempt changes how long the first attempt at each of several addresses may take.
func (d *Dialer) SetQuickAttempt(quick time.Duration) { d.quick = quick }
