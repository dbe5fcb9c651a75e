package main

import (
	"errors"
	"testing"
)

func TestOnlyARefusalThatSaysWhenIsClear(t *testing.T) {
	o := &outcome{}
	for i, c := range []struct {
		status int
		after  string
		err    error
	}{{202, "", nil}, {429, "1", nil}, {429, "", nil}, {429, "soon", nil}, {429, "0", nil}, {503, "1", nil}, {0, "", errors.New("cut")}} {
		o.judge(i, c.status, c.after, nil, c.err)
	}
	if len(o.accepted) != 1 || o.accepted[0] != 0 || o.limited.Load() != 1 || o.unclear.Load() != 5 || o.example == nil {
		t.Errorf("accepted %v, %d limited, %d unclear, for example %v", o.accepted, o.limited.Load(), o.unclear.Load(), o.example)
	}
}
