package main

import (
	"context"
	"crypto/subtle"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/tax-remote/reference"
	"github.com/crossdock/crossdock/plugins/tax-table/table"
)

// tokenVariable holds the token of "serve": arguments can be seen by others on the machine.
const tokenVariable = "TAX_REMOTE_TOKEN"

// Limits of "serve".
const (
	headerTimeout   = 10 * time.Second
	requestTimeout  = time.Minute
	shutdownTimeout = 5 * time.Second
)

// serve is the other side of the line, until it is interrupted.
func serve(args []string) error {
	if args[0] != "serve" {
		return fmt.Errorf("there is no %q: without arguments it is a plugin that an agent starts, and with %q the other side", args[0], "serve")
	}
	flags := flag.NewFlagSet("tax-remote serve", flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:8085", "address; there is no TLS, so leave it on this machine or behind a proxy")
	state := flags.String("state", "", "directory that keeps what was finalised; without it documents can only be estimated")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	token := os.Getenv(tokenVariable)
	if token == "" {
		return fmt.Errorf("%s is empty: set it to the token that callers have to bring", tokenVariable)
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	engine, err := table.New(log)
	if err != nil {
		return err
	}
	defer engine.Close()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := engine.Configure(ctx, sdk.Settings{"state": *state}); err != nil {
		return err
	}
	allowed := func(brought string) bool { return subtle.ConstantTimeCompare([]byte(brought), []byte(token)) == 1 }
	server := &http.Server{Handler: reference.Handler(engine, allowed, log), ReadHeaderTimeout: headerTimeout, ReadTimeout: requestTimeout, WriteTimeout: requestTimeout}
	at, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	log.Info("serving", "url", "http://"+at.Addr().String())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(at) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	err = server.Shutdown(ctx) // the calls first, then the book
	if served := <-ended; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}
