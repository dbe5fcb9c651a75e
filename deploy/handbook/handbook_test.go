package handbook_test

import (
	"testing"

	"github.com/crossdock/crossdock/deploy/handbook"
	"github.com/crossdock/crossdock/deploy/handbook/reference"
)

func TestTopicsCanBeAskedFor(t *testing.T) { reference.Topics(t, handbook.Topics()) }
