package main

import (
	"testing"

	"github.com/crossdock/crossdock/deploy/handbook/reference"
)

func TestTopicsCanBeAskedFor(t *testing.T) { reference.Topics(t, topics()) }
