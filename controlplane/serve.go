package controlplane

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// The limits of an HTTP listener; the standard library has none of its own.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 30 * time.Second
	writeTimeout      = 60 * time.Second // longer than a trace, which waits for agents
	idleTimeout       = 60 * time.Second
	maxHeaderBytes    = 32 << 10
)

// door is one HTTP listener.
type door struct {
	listener net.Listener
	server   *http.Server
	grace    time.Duration
}

// openDoor listens; settings nil means plain http.
func openDoor(address string, handler http.Handler, settings *tls.Config, grace time.Duration, log *slog.Logger) (*door, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	d := &door{listener: listener, grace: grace, server: &http.Server{
		Handler: handler, ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout,
		WriteTimeout: writeTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug), TLSConfig: settings,
	}}
	return d, nil
}

// run serves until ctx ends; then requests under way get a grace time.
func (d *door) run(ctx context.Context) error {
	ended := make(chan error, 1)
	go func() {
		if d.server.TLSConfig != nil {
			ended <- d.server.ServeTLS(d.listener, "", "")
			return
		}
		ended <- d.server.Serve(d.listener)
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.Background(), d.grace)
	defer cancel()
	if err := d.server.Shutdown(grace); err != nil {
		d.server.Close() // the grace time is over: whoever is still there repeats
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// opsHandler serves monitoring. healthz says that the process lives, readyz that it serves.
func opsHandler(registry *prometheus.Registry, ready func() error) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{Registry: registry}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	return mux
}

// localURL is how a command on this machine reaches a listener.
func localURL(address net.Addr) string {
	host, port, err := net.SplitHostPort(address.String())
	if err != nil {
		return "https://" + address.String()
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "https://" + net.JoinHostPort(host, port)
}
