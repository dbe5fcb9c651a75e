package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/agent/service"
	"github.com/crossdock/crossdock/protocol/transport"
)

// enrolment is what the flags of enroll say.
type enrolment struct {
	tokenFile        string
	addresses        []string
	transport, proxy string
}

func (p *program) enrollCommand() *cobra.Command {
	var e enrolment
	c := &cobra.Command{
		Use: "enroll", Short: "Trade a join token for this agent's identity", Args: cobra.NoArgs,
		Long: `Trade a join token for this agent's identity.

The token comes from "crossdock token create --site SITE" and works once, for a short time.
It is read from a file or from standard input, so that it shows in no process list. An agent
that was enrolled before gets a new epoch; its journal stays. Over the data of an agent a
token for another site is refused and stays good; elsewhere it revokes the agent that the
site had so far: that is how a server is replaced.

With --control-plane the configuration file is written, if there is none. One that is there
stays as it is, but for the example address in the one that packages bring. A proxy of the
environment is written down too, since a service does not see it.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.enrollWith(cmd.Context(), e) },
	}
	c.Flags().StringVar(&e.tokenFile, "token-file", "-", "file with the join token; - is standard input")
	c.Flags().StringSliceVar(&e.addresses, "control-plane", nil, "host:port of the control plane's nodes, instead of the configuration's")
	c.Flags().StringVar(&e.transport, "transport", "", "auto, quic or tcp, instead of the configuration's")
	c.Flags().StringVar(&e.proxy, "proxy", "", "http://host:port of a proxy for TCP, instead of the configuration's")
	p.rootFlag(c)
	return c
}

func (p *program) enrollWith(ctx context.Context, e enrolment) error {
	cfg, file, password, err := p.configFor(e)
	if err != nil {
		return err
	}
	if err := cfg.Validate(); err != nil {
		if len(cfg.ControlPlane.Addresses) == 0 {
			err = fmt.Errorf("%w\nname them with --control-plane HOST:PORT, as the line has it that crossdock token create prints, or in %s", err, file)
		}
		return withCode(exitUsage, err)
	}
	if of := exampleAddresses(cfg.ControlPlane.Addresses); len(of) > 0 {
		fmt.Fprintf(p.err, "crossdock-agent: %s is the address of the example, and hardly of your control plane: name that with --control-plane, or as controlplane.addresses in %s\n",
			strings.Join(of, ", "), file)
	}
	token, err := readToken(p.in, e.tokenFile)
	if err != nil {
		return withCode(exitUsage, err)
	}
	hash, err := authorityHash(token)
	if err != nil {
		return withCode(exitUsage, err)
	}
	if err := service.Protect(file, cfg.Data, cfg.Secrets); err != nil {
		return serviceError(err)
	}
	if len(e.addresses) == 0 {
		return p.enroll(ctx, cfg, token, hash)
	}
	kept, err := p.keep(file, cfg, password)
	if err != nil {
		return errors.Join(fmt.Errorf("the token is still good; the configuration cannot be written: %w", err), kept.undo())
	}
	if err := p.enroll(ctx, cfg, token, hash); err != nil {
		return errors.Join(err, kept.undo())
	}
	return kept.done()
}

// configFor completes the configuration by the flags, and names its file, there or not. password
// is that of a proxy which is to be written down.
func (p *program) configFor(e enrolment) (cfg agent.Config, file, password string, err error) {
	if file = p.config; file != "" && len(e.addresses) > 0 && !there(file) {
		cfg = agent.DefaultConfig() // it is written below
		cfg.Data, cfg.Version = p.under(cfg.Data), version
		if p.dataSaid() != "" {
			cfg.Data = p.dataSaid()
		}
	} else if cfg, file, err = p.loadUnchecked(); err != nil {
		return cfg, file, "", err
	}
	if cfg.Secrets != "" {
		cfg.Secrets = p.under(cfg.Secrets)
	}
	if file == "" {
		file = p.under(defaultConfigPath())
	}
	if len(e.addresses) > 0 {
		cfg.ControlPlane.Addresses = e.addresses
	}
	if e.transport != "" {
		cfg.ControlPlane.Transport = e.transport
	}
	if e.proxy != "" {
		cfg.ControlPlane.Proxy = e.proxy
	}
	if len(e.addresses) == 0 {
		return cfg, file, "", nil // nothing is written, and the environment is at hand
	}
	said := e.proxy != ""
	if cfg.ControlPlane.Proxy == "" {
		cfg.ControlPlane.Proxy, said = proxyOfEnvironment(cfg), true
	}
	if said { // not one that stands in the file: there a password is a fault
		password = splitPassword(&cfg)
	}
	return cfg, file, password, nil
}

func readToken(in io.Reader, file string) (string, error) {
	const maxToken = 4 << 10
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return "", err
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, maxToken))
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(text))
	if token == "" && file == "-" {
		return "", errors.New("no token arrived on standard input; pipe it in, or name its file with --token-file")
	}
	if strings.Count(token, ".") != 3 {
		return "", errors.New(`that is not a join token: it has four parts with dots between them, as "crossdock token create" prints it`)
	}
	return token, nil
}

// authorityHash is the last part of a token: the SHA-256 of the CA's public key.
func authorityHash(token string) (hash [sha256.Size]byte, err error) {
	raw, err := hex.DecodeString(token[strings.LastIndex(token, ".")+1:])
	if err != nil || len(raw) != len(hash) {
		return hash, errors.New("the token's last part is not the hash of an authority: was the token copied whole?")
	}
	return [sha256.Size]byte(raw), nil
}

func (p *program) enroll(ctx context.Context, cfg agent.Config, token string, hash [sha256.Size]byte) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cfg.Logger = cfg.NewLogger(p.err)
	granted, err := agent.Enroll(ctx, cfg, token, hash)
	if err != nil {
		return enrollError(err)
	}
	if err := service.KeepOwner(cfg.Data); err != nil {
		return fmt.Errorf("enrolled as agent %s, and its data cannot be given to the user of %s: %w", granted.Agent, cfg.Data, err)
	}
	return p.print(granted, func(w io.Writer) {
		fmt.Fprintf(w, "enrolled as agent %s of site %s in cluster %s (epoch %d)\n", granted.Agent, granted.Site, granted.Cluster, granted.Epoch)
	})
}

func enrollError(err error) error {
	if errors.Is(err, transport.ErrUnreachable) {
		return withCode(exitUnreachable, fmt.Errorf("%w; is controlplane.addresses right (host, and the port of sync: there), and does the control plane run?", err))
	}
	switch connect.CodeOf(err) {
	case connect.CodePermissionDenied, connect.CodeUnauthenticated:
		return withCode(exitDenied, err)
	case connect.CodeUnavailable, connect.CodeDeadlineExceeded:
		return withCode(exitUnreachable, err)
	}
	return err
}
