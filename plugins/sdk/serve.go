package sdk

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
)

// Handshake is what a host and its plugins must agree on. The version counts changes after
// which old plugins no longer work.
var Handshake = goplugin.HandshakeConfig{ProtocolVersion: 1, MagicCookieKey: "CROSSDOCK_PLUGIN", MagicCookieValue: "crossdock"}

// MaxMessageSize is the size of the largest message, both ways.
const MaxMessageSize = 4 << 20

// Lifeline names the variable in which a host says which inherited descriptor ends when the
// host does. A plugin that sees it end exits, so that none outlives a host that was killed.
const Lifeline = "CROSSDOCK_PLUGIN_LIFELINE"

// Serve serves a plugin under its kind (carrier or tax) until its host ends it. Contracts have
// a Serve of their own, which is the one to use.
func Serve(kind string, p goplugin.Plugin) {
	if err := holdLifeline(os.Getenv(Lifeline), os.Exit); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goplugin.Serve(&goplugin.ServeConfig{
		HandshakeConfig: Handshake,
		Plugins:         goplugin.PluginSet{kind: p},
		GRPCServer: func(options []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(options, grpc.MaxRecvMsgSize(MaxMessageSize), grpc.MaxSendMsgSize(MaxMessageSize))...)
		},
		Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.Info, Output: os.Stderr, JSONFormat: true}),
	})
}

// holdLifeline exits when the descriptor ends. Without one there is nothing to hold: the
// plugin was started by something else than an agent.
func holdLifeline(descriptor string, exit func(int)) error {
	if descriptor == "" {
		return nil
	}
	n, err := strconv.ParseUint(descriptor, 10, 16)
	if err != nil {
		return fmt.Errorf("%s=%s is no descriptor: the host sets it to a number", Lifeline, descriptor)
	}
	end := os.NewFile(uintptr(n), "lifeline")
	if _, err := end.Stat(); err != nil {
		return fmt.Errorf("%s=%s: %w: the host has to hand the descriptor down", Lifeline, descriptor, err)
	}
	go func() {
		_, _ = io.Copy(io.Discard, end) // how it ends does not matter
		exit(1)
	}()
	return nil
}

// Logger makes the logger of a plugin. Its lines have the form in which hosts take levels and
// attributes apart. Call it before Serve, which gives standard error another meaning.
func Logger() *slog.Logger { return logger(os.Stderr) }

func logger(out io.Writer) *slog.Logger {
	return slog.New(slog.NewJSONHandler(out, &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) > 0 {
			return a
		}
		switch a.Key {
		case slog.TimeKey:
			return slog.String("@timestamp", a.Value.Time().Format("2006-01-02T15:04:05.000000Z07:00"))
		case slog.LevelKey:
			return slog.String("@level", strings.ToLower(a.Value.String()))
		case slog.MessageKey:
			return slog.Attr{Key: "@message", Value: a.Value}
		}
		return a
	}}))
}
