package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/net/http/httpproxy"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/protocol/atomicfile"
)

// placeholder is the address in the configuration that packages bring. Nobody's host has such a
// name, so it may be replaced.
const placeholder = "addresses: [" + exampleHost + ":7443]"

// exampleHost is whose address every example has.
const exampleHost = "crossdock.example.com"

// exampleAddresses lists those of some addresses that were left as an example has them.
func exampleAddresses(addresses []string) (of []string) {
	for _, a := range addresses {
		if host, _, err := net.SplitHostPort(a); err == nil && strings.EqualFold(strings.TrimSuffix(host, "."), exampleHost) {
			of = append(of, a)
		}
	}
	return of
}

// keeper puts into the configuration file what an enrolment was told by its flags, so that the
// agent runs with what it was enrolled with.
type keeper struct {
	program *program
	file    string
	former  []byte // nil: there was no file
	written bool
	made    string // the directory that was made for it

	password keptPassword
}

// keep writes the file, before the token is used up: where it cannot be written, nothing has
// happened yet. What was there stays, but for the placeholder of a package.
func (p *program) keep(file string, cfg agent.Config, password string) (*keeper, error) {
	k := &keeper{program: p, file: file}
	if err := k.password.write(cfg.Secrets, password); err != nil {
		return k, err
	}
	text, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return k, k.write([]byte(p.freshConfig(cfg)))
	case err != nil:
		return k, err
	}
	there, err := agent.ReadUnchecked(file)
	if err != nil {
		return k, err
	}
	if len(there.ControlPlane.Addresses) == 0 {
		return k, fmt.Errorf("%s names no addresses: write controlplane: {addresses: %s} into it, or take it away", file, flow(cfg.ControlPlane.Addresses))
	}
	k.former = text
	changed := string(text)
	if strings.Count(changed, placeholder) == 1 && !slices.Equal(there.ControlPlane.Addresses, cfg.ControlPlane.Addresses) {
		changed = strings.Replace(changed, placeholder, "addresses: "+flow(cfg.ControlPlane.Addresses), 1)
		if cfg.ControlPlane.Proxy != "" {
			changed = strings.Replace(changed, `proxy: ""`, fmt.Sprintf("proxy: %q", cfg.ControlPlane.Proxy), 1)
		}
		if password != "" {
			changed = strings.Replace(changed, `proxyPassword: ""`, fmt.Sprintf("proxyPassword: %q", cfg.ControlPlane.ProxyPassword), 1)
		}
		if err := k.write([]byte(changed)); err != nil {
			return k, err
		}
		if there, err = agent.ReadUnchecked(file); err != nil {
			return k, err
		}
	}
	if of := there.ControlPlane.Addresses; !slices.Equal(of, cfg.ControlPlane.Addresses) && len(exampleAddresses(of)) == len(of) {
		return k, fmt.Errorf("%s still names %s, the address of the example: write addresses: %s there, or take the file away", file, strings.Join(of, ", "), flow(cfg.ControlPlane.Addresses))
	}
	if !slices.Equal(there.ControlPlane.Addresses, cfg.ControlPlane.Addresses) {
		fmt.Fprintf(p.err, "%s names other addresses, %s, and is left as it is: the agent will use those\n", file, strings.Join(there.ControlPlane.Addresses, ", "))
	}
	switch {
	case there.ControlPlane.Proxy != cfg.ControlPlane.Proxy:
		k.password.passing = true
		fmt.Fprintf(p.err, "%s does not name the proxy of this enrolment, and a service sees none of your environment: set controlplane.proxy there, and controlplane.proxyPassword if it wants one\n", file)
	case password != "" && there.ControlPlane.ProxyPassword != cfg.ControlPlane.ProxyPassword:
		k.password.passing = true
		fmt.Fprintf(p.err, "%s names another password of the proxy than this enrolment: correct what controlplane.proxyPassword names\n", file)
	}
	return k, nil
}

// write replaces the file, in the mode that it has.
func (k *keeper) write(text []byte) error {
	mode := fs.FileMode(0o644)
	if info, err := os.Stat(k.file); err == nil {
		mode = info.Mode().Perm()
	}
	dir := filepath.Dir(k.file)
	if !there(dir) {
		k.made = dir
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := atomicfile.Write(k.file, text, mode); err != nil {
		return err
	}
	k.written = true
	return nil
}

// undo puts things back as they were, when nothing came of the enrolment.
func (k *keeper) undo() error {
	password := k.password.undo()
	switch {
	case !k.written:
		return password
	case k.former != nil:
		return errors.Join(password, k.write(k.former))
	}
	if err := os.Remove(k.file); err != nil {
		return errors.Join(password, err)
	}
	if k.made != "" {
		_ = os.Remove(k.made) // somebody else has put something there
	}
	return password
}

// done says what was written, and notes the machine's own file for an uninstallation.
func (k *keeper) done() error {
	if err := k.password.done(k.program.err); err != nil {
		return err
	}
	if !k.written {
		return nil
	}
	if k.former != nil {
		fmt.Fprintf(k.program.err, "put the control plane's addresses into %s\n", k.file)
		return nil // a package's
	}
	fmt.Fprintf(k.program.err, "wrote the configuration %s\n", k.file)
	if k.file != k.program.under(defaultConfigPath()) {
		return nil
	}
	return k.program.machine().Note(defaultConfigPath())
}

// freshConfig is a configuration with what differs from the defaults.
func (p *program) freshConfig(cfg agent.Config) string {
	var b strings.Builder
	b.WriteString("# Written by crossdock-agent enroll. What does not stand here has its default.\n")
	if p.dataSaid() != "" {
		fmt.Fprintf(&b, "data: %q # queues, identity, policy\n", absolute(p.dataSaid()))
	}
	b.WriteString("controlplane:\n")
	fmt.Fprintf(&b, "  addresses: %s # its nodes; further ones are learned\n", flow(cfg.ControlPlane.Addresses))
	if cfg.ControlPlane.Transport != agent.DefaultConfig().ControlPlane.Transport {
		fmt.Fprintf(&b, "  transport: %s\n", cfg.ControlPlane.Transport)
	}
	if cfg.ControlPlane.Proxy != "" {
		fmt.Fprintf(&b, "  proxy: %q # for TCP\n", cfg.ControlPlane.Proxy)
	}
	if cfg.ControlPlane.ProxyPassword != "" {
		fmt.Fprintf(&b, "  proxyPassword: %q\n", cfg.ControlPlane.ProxyPassword)
	}
	return b.String()
}

// absolute is for a file that is read from anywhere.
func absolute(path string) string {
	if at, err := filepath.Abs(path); err == nil {
		return at
	}
	return path
}

func flow(addresses []string) string {
	quoted := make([]string, len(addresses))
	for i, a := range addresses {
		quoted[i] = fmt.Sprintf("%q", a)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// proxyOfEnvironment is the proxy that leads to the control plane by the environment of who
// enrols, "" if none does. A service has another environment, so it has to be written down.
func proxyOfEnvironment(cfg agent.Config) string {
	of := httpproxy.FromEnvironment().ProxyFunc()
	for _, address := range cfg.ControlPlane.Addresses {
		if proxy, err := of(&url.URL{Scheme: "https", Host: address}); err == nil && proxy != nil {
			return proxy.String()
		}
	}
	return ""
}
