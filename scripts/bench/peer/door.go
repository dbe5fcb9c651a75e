package peer

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/crossdock/crossdock/agent/intake"
	"github.com/crossdock/crossdock/agent/routing"
	"github.com/crossdock/crossdock/protocol/policy"
	"github.com/crossdock/crossdock/scripts/bench/material"
)

// DoorRole is the word by which this program is told to be the door at the shop.
const DoorRole = "nats-door"

// RunDoor serves our intake over a stream: address to listen at, folder of policy, URL.
func RunDoor(ctx context.Context, args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("%s takes address, policy and URL", DoorRole)
	}
	set, err := material.ReadPolicy(args[1])
	if err != nil {
		return err
	}
	journal, err := OpenJournal(args[2])
	if err != nil {
		return err
	}
	defer journal.Close()
	service, err := Intake(set, journal, intake.Config{Listen: args[0]}, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		return err
	}
	return service.Run(ctx)
}

// Intake is our own at the shop, over whichever journal.
func Intake(set *policy.Set, journal intake.Journal, cfg intake.Config, log *slog.Logger) (*intake.Service, error) {
	p := fixed{set}
	cfg.Site = material.ShopSite
	return intake.New(cfg, intake.Parts{Policy: p, Journal: journal, Secrets: p, Logger: log,
		NewRouter: func(set *policy.Set) intake.Router { return routing.New(set, material.ShopSite) }})
}

// fixed is one policy with one secret.
type fixed struct{ set *policy.Set }

func (f fixed) Policy() *policy.Set          { return f.set }
func (fixed) Resolve(string) ([]byte, error) { return []byte(material.Token), nil }

// Journal is a stream as intake's journal. It is safe for concurrent use.
type Journal struct {
	nc *nats.Conn
	js jetstream.JetStream
}

var _ intake.Journal = (*Journal)(nil)

// OpenJournal connects to the server that has the stream.
func OpenJournal(url string) (*Journal, error) {
	nc, js, err := connect(url)
	return &Journal{nc, js}, err
}

// Close ends the connection.
func (j *Journal) Close() error {
	j.nc.Close()
	return nil
}

// Submit publishes all events, and then waits for the acknowledgement of each. A stream that
// allows atomic batches would acknowledge them once; nats.go has no call for it, and only
// the answers to batches would gain.
func (j *Journal) Submit(ctx context.Context, events []intake.Admitted) ([]intake.Receipt, error) {
	futures := make([]jetstream.PubAckFuture, len(events))
	for i, e := range events {
		var err error
		if futures[i], err = j.js.PublishMsgAsync(&nats.Msg{Subject: subject, Data: e.Data}, stall); err != nil {
			return nil, err
		}
	}
	receipts := make([]intake.Receipt, len(events))
	for i, f := range futures {
		select {
		case ack := <-f.Ok():
			receipts[i].Pos = ack.Sequence
		case err := <-f.Err():
			return nil, err
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return receipts, nil
}
