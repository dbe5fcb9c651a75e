package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/spf13/cobra"
)

// listenCommand is the simplest system there is: it prints what is delivered to it.
func listenCommand(out io.Writer) *cobra.Command {
	var address string
	var status int
	c := &cobra.Command{Use: "listen", Short: "An HTTP endpoint that prints what is delivered to it", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			listener, err := net.Listen("tcp", address)
			if err != nil {
				return err
			}
			server := &http.Server{Handler: printer(out, status), ReadHeaderTimeout: 5 * time.Second}
			stop := context.AfterFunc(cmd.Context(), func() { _ = server.Close() })
			defer stop()
			fmt.Fprintf(out, "listening on http://%s\n", listener.Addr())
			if err := server.Serve(listener); cmd.Context().Err() == nil {
				return err
			}
			return nil
		}}
	c.Flags().StringVar(&address, "address", "127.0.0.1:8080", "host:port")
	c.Flags().IntVar(&status, "status", http.StatusNoContent, "what to answer; 422 makes a dead letter of every delivery")
	return c
}

func printer(out io.Writer, status int) http.Handler {
	var mu sync.Mutex // one delivery is printed at a time
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(out, "%s %s  Idempotency-Key: %s\n%s\n\n", r.Method, r.URL.Path, r.Header.Get("Idempotency-Key"), body)
		w.WriteHeader(status)
	})
}
