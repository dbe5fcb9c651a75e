package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"github.com/google/uuid"
)

// installer makes the MSI of the agent with wixl, where that is there.
func (r *release) installer(ctx context.Context, p platform) error {
	version, err := windowsVersion(r.version, r.epoch)
	if err != nil {
		return err
	}
	name := "crossdock-agent-" + strings.TrimPrefix(r.version, "v") + "-" + p.String() + ".msi"
	wixl, err := exec.LookPath("wixl")
	if err != nil {
		r.missing = append(r.missing, name+": not made, wixl is missing (on Debian: apt-get install wixl)")
		return nil
	}
	stage := filepath.Join(r.stage, "msi")
	if err := os.MkdirAll(stage, 0o755); err != nil {
		return err
	}
	if err := r.describe(p, stage, version); err != nil {
		return err
	}
	file := filepath.Join(r.out, name)
	cmd := exec.CommandContext(ctx, wixl, "-a", "x64", "-o", file, "crossdock-agent.wxs")
	cmd.Dir = stage
	said, err := cmd.CombinedOutput()
	// What it does not know it warns of and leaves out, and goes on.
	if err != nil || len(bytes.TrimSpace(said)) > 0 {
		return errors.Join(fmt.Errorf("wixl: %s", bytes.TrimSpace(said)), err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	code := uuid.NewSHA1(uuid.NameSpaceURL, []byte("https://github.com/crossdock/crossdock/package/"+r.version+"/"+r.epoch.String()))
	if err := settle(text, code, r.epoch); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := os.WriteFile(file, text, 0o644); err != nil {
		return err
	}
	return r.say(name)
}

// describe puts the installer's source and the files that it takes in, with their times, into a
// folder.
func (r *release) describe(p platform, stage, version string) error {
	names, err := r.plugins()
	if err != nil {
		return err
	}
	source, err := template.ParseFiles(filepath.Join(r.top, "deploy", "packages", "crossdock-agent.wxs"))
	if err != nil {
		return err
	}
	type plugin struct{ ID, File string }
	fields := struct {
		Version, Product string
		Plugins          []plugin
	}{version, strings.ToUpper(uuid.NewSHA1(uuid.NameSpaceURL, []byte("https://github.com/crossdock/crossdock/product/"+version)).String()), nil}
	taken := map[string]string{
		p.exe("crossdock-agent"): filepath.Join(r.bin(p), p.exe("crossdock-agent")),
		"agent.example.yaml":     filepath.Join(r.top, "deploy", "examples", "agent.yaml"),
	}
	for _, name := range names {
		fields.Plugins = append(fields.Plugins, plugin{strings.ReplaceAll(name, "-", "_"), p.exe(name)})
		taken[p.exe(name)] = filepath.Join(r.bin(p), "plugins", p.exe(name))
	}
	for name, from := range taken {
		text, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		to := filepath.Join(stage, name)
		if err := os.WriteFile(to, text, 0o644); err != nil {
			return err
		}
		if err := os.Chtimes(to, r.epoch, r.epoch); err != nil {
			return err
		}
	}
	var text bytes.Buffer
	if err := source.Execute(&text, fields); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(stage, "crossdock-agent.wxs"), text.Bytes(), 0o644)
}

// The properties of an installer's summary that wixl takes from chance and clock.
const (
	packageCode = 9
	created     = 12
	saved       = 13
)

// summaryFormat begins the one set of properties in a summary.
var summaryFormat = []byte{0xe0, 0x85, 0x9f, 0xf2, 0xf9, 0x4f, 0x68, 0x10, 0xab, 0x91, 0x08, 0x00, 0x2b, 0x27, 0xb3, 0xd9}

// settle writes code and time over what wixl has made up. The summary lies in one piece; where
// it does not, what is found is not of the expected form, and that is an error.
func settle(text []byte, code uuid.UUID, epoch time.Time) error {
	const header = 28 // bytes before the format
	at := bytes.Index(text, summaryFormat)
	if at < header || at+20 > len(text) {
		return errors.New("it has no summary")
	}
	section := at - header + int(binary.LittleEndian.Uint32(text[at+16:]))
	word := func(at int) (uint32, error) {
		if at < 0 || at+4 > len(text) {
			return 0, errors.New("its summary is cut off")
		}
		return binary.LittleEndian.Uint32(text[at:]), nil
	}
	count, err := word(section + 4)
	if err != nil {
		return err
	}
	done := 0
	for i := range min(int(count), 32) {
		id, err := word(section + 8 + 8*i)
		if err != nil {
			return err
		}
		offset, err := word(section + 12 + 8*i)
		if err != nil {
			return err
		}
		value := section + int(offset)
		kind, err := word(value)
		if err != nil {
			return err
		}
		switch {
		case id == packageCode && kind == 0x1e && value+8+38 <= len(text) && text[value+8] == '{' && text[value+8+37] == '}':
			copy(text[value+8:], "{"+strings.ToUpper(code.String())+"}")
			done++
		case (id == created || id == saved) && kind == 0x40 && value+12 <= len(text):
			binary.LittleEndian.PutUint64(text[value+4:], uint64(epoch.Unix()+11644473600)*1e7) // since 1601, in 100 ns
			done++
		}
	}
	if done != 3 {
		return fmt.Errorf("%d of the 3 properties of its summary were found: wixl has changed how it writes them", done)
	}
	return nil
}
