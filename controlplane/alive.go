package controlplane

import (
	"context"
	"fmt"
	"io"
	"net/http"
)

// Alive asks the loops that everything goes through, and gives nil if each has answered before
// ctx ends: the one that replicates, and the door for monitoring. Others that are away, and a
// leader that is not there, are no reason: starting again would not help.
func (c *ControlPlane) Alive(ctx context.Context) error {
	if ops := c.Addresses().Ops; ops != "" {
		if err := answers(ctx, "http://"+ops+"/healthz"); err != nil {
			return fmt.Errorf("ops: %w", err)
		}
	}
	select {
	case <-c.ready:
		if err := c.store.Alive(ctx); err != nil {
			return fmt.Errorf("store: %w", err)
		}
	default: // the store may not be there yet
	}
	return nil
}

// itself asks this process. A proxy of the environment is for others: behind it the door could
// not be reached, and the watchdog would end a node that is well.
var itself = &http.Client{Transport: &http.Transport{}}

func answers(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := itself.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", answer.Status)
	}
	_, err = io.Copy(io.Discard, io.LimitReader(answer.Body, 64)) // so that the connection is used again
	return err
}

// Line is the node in one line, for whoever shows services of the machine.
func (c *ControlPlane) Line() string {
	select {
	case <-c.ready:
	default:
		return "starting, or waiting for the other nodes"
	}
	leader, leads := c.store.Leader()
	line := fmt.Sprintf("node %s, ", c.id.Node)
	switch {
	case leads:
		line += "leads"
	case leader == "":
		line += "no leader"
	default:
		line += "follows " + leader
	}
	if members := len(c.store.Members()); members > 1 {
		line += fmt.Sprintf(", %d nodes", members)
	}
	return line
}
