package agent

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Ready is closed when the doors are open and the drivers of the policy that is held, if one
// is, have been opened.
func (a *Agent) Ready() <-chan struct{} { return a.opened }

// Alive asks the loops that everything goes through, and gives nil if each has answered before
// ctx ends: the one that commits to the journal, and the operators' door. A full disk, a cut
// line and a system that fails are no reason: starting again would not help.
func (a *Agent) Alive(ctx context.Context) error {
	if err := a.journal.Alive(ctx); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+a.ops.Addr()+"/healthz", nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("ops: %w", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("ops: %s", answer.Status)
	}
	_, err = io.Copy(io.Discard, io.LimitReader(answer.Body, 64)) // so that the connection is used again
	return err
}

// Line is the agent in one line, for whoever shows services of the machine.
func (a *Agent) Line() string {
	s := a.Status()
	said := []string{"site " + s.Site}
	if s.Link.Connected {
		said = append(said, "connected by "+s.Link.Transport)
	} else {
		said = append(said, "cut off, works on")
	}
	if s.Policy.Revision == "" {
		said = append(said, "no policy yet")
	} else {
		said = append(said, "policy "+s.Policy.Revision)
	}
	left := s.Left()
	return strings.Join(append(said, fmt.Sprintf("%d to be sent, %d to be delivered", left.Outgoing, left.Pending)), ", ")
}
