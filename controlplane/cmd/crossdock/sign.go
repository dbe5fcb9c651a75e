package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"aead.dev/minisign"
	"github.com/spf13/cobra"

	"github.com/crossdock/crossdock/protocol/atomicfile"
	"github.com/crossdock/crossdock/protocol/release"
)

// passwordEnv holds the password of a signing key; without it one line of stdin does.
const passwordEnv = "CROSSDOCK_RELEASE_PASSWORD" //nolint:gosec // the name of a variable

const maxPassword = 1 << 10

func (a *app) releasesKeygen() *cobra.Command {
	var bare bool
	cmd := &cobra.Command{
		Use: "keygen FILE", Short: "Make a key that signs releases", Args: cobra.ExactArgs(1),
		Long: `Make a key that signs releases.

FILE gets the secret key, as minisign has it, and FILE.pub the public one. The password comes
from ` + passwordEnv + ` or from one line of stdin. Keep the secret key away from the
control plane and from sites: who has it decides what runs there. The line that is shown
belongs into upgrades.keys of the agents, and into releases.keys of the control plane.`,
		RunE: a.do(func(_ context.Context, args []string) error {
			text, public, err := a.newKey(bare)
			if err != nil {
				return err
			}
			file, err := os.OpenFile(filepath.Clean(args[0]), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if errors.Is(err, fs.ErrExist) {
				return &exitError{exitConflict, fmt.Errorf("%s is there already; a key is never written over", args[0])}
			} else if err != nil {
				return usageError("%w", err)
			}
			_, err = file.Write(append(text, '\n'))
			if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			pub, err := public.MarshalText()
			if err != nil {
				return err
			}
			if err := atomicfile.Write(args[0]+".pub", append(pub, '\n'), 0o644); err != nil {
				return err
			}
			return a.show(map[string]string{"key": public.String(), "id": release.KeyID(public.ID())}, func(w io.Writer) { fmt.Fprintln(w, public.String()) })
		}),
	}
	cmd.Flags().BoolVar(&bare, "no-password", false, "leave the secret key unencrypted, for a build machine that guards it otherwise")
	return cmd
}

func (a *app) newKey(bare bool) (text []byte, public minisign.PublicKey, err error) {
	public, private, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		return nil, public, err
	}
	if bare {
		text, err = private.MarshalText()
		return text, public, err
	}
	password, err := a.password()
	if err != nil {
		return nil, public, err
	}
	text, err = minisign.EncryptKey(password, private)
	return text, public, err
}

func (a *app) password() (string, error) {
	if p := os.Getenv(passwordEnv); p != "" {
		return p, nil
	}
	line, err := bufio.NewReader(io.LimitReader(a.stdin, maxPassword)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	if line = strings.TrimRight(line, "\r\n"); line == "" {
		return "", usageError("the password of the signing key is missing: set %s, or give it on stdin", passwordEnv)
	}
	return line, nil
}

func (a *app) signingKey(file string) (key minisign.PrivateKey, err error) {
	text, err := os.ReadFile(filepath.Clean(file))
	if err != nil {
		return key, usageError("signing key: %w", err)
	}
	if minisign.IsEncrypted(text) {
		password, err := a.password()
		if err != nil {
			return key, err
		}
		if key, err = minisign.DecryptKey(password, text); err != nil {
			return key, usageError("%s cannot be opened: is the password right? %w", file, err)
		}
		return key, nil
	}
	if err := key.UnmarshalText(text); err != nil {
		return key, usageError("%s is no secret key of minisign: %w", file, err)
	}
	return key, nil
}

func (a *app) releasesSign() *cobra.Command {
	var keyFile, version, span string
	var names []string
	cmd := &cobra.Command{
		Use: "sign DIR --release VERSION --key FILE", Short: "Write and sign the manifest of a release", Args: cobra.ExactArgs(1),
		Long: `Write and sign the manifest of a release.

DIR has a folder for each platform, such as linux-amd64, with the programs in it, as make
release leaves them. Writes manifest.json and manifest.json.minisig there, and for each platform
crossdock-agent-upgrade-VERSION-OS-ARCH.tar.gz, which has both and the agent: carry it to a site
that no line leads to, for crossdock-agent upgrade. A program that says it is another version is
refused: no agent would run it. The same programs and key give the same bytes. The password of the key comes from ` + passwordEnv + `
or from one line of stdin. It asks no network.`,
		RunE: a.do(func(_ context.Context, args []string) error {
			m := &release.Manifest{Format: release.Format, Version: strings.TrimPrefix(version, "v")} // a tag's v names no other release
			if span != "" {
				m.Protocol = &release.Protocol{}
				if _, err := fmt.Sscanf(span, "%d-%d", &m.Protocol.Min, &m.Protocol.Max); err != nil {
					return usageError("--protocol %q is not a span such as 1-2", span)
				}
			}
			var err error
			if m.Files, err = programsIn(args[0], names); err != nil {
				return err
			}
			if _, err := m.Encode(); err != nil { // before anybody is asked for a password
				return usageError("%w", err)
			}
			if err := a.checkVersions(args[0], m); err != nil {
				return err
			}
			key, err := a.signingKey(keyFile)
			if err != nil {
				return err
			}
			manifest, signature, err := release.Sign(m, key)
			if err != nil {
				return err
			}
			if err := atomicfile.Write(filepath.Join(args[0], release.ManifestFile), manifest, 0o644); err != nil {
				return err
			}
			if err := atomicfile.Write(filepath.Join(args[0], release.SignatureFile), signature, 0o644); err != nil {
				return err
			}
			byHand, err := writeCarried(args[0], m, manifest, signature)
			if err != nil {
				return err
			}
			return a.show(m, func(w io.Writer) {
				row(w, "release", m.Version)
				row(w, "signed by", release.KeyID(key.ID()))
				for _, f := range m.Files {
					row(w, f.Name, f.OS+"/"+f.Arch, f.Size, f.SHA256)
				}
				for _, name := range byHand {
					row(w, "to carry to a site", name)
				}
			})
		}),
	}
	cmd.Flags().StringVar(&keyFile, "key", "", "file with the secret key")
	cmd.Flags().StringVar(&version, "release", "", "the version that its programs say; a v before it is left out")
	cmd.Flags().StringVar(&span, "protocol", "", "versions of the sync protocol that they speak, such as 1-2")
	cmd.Flags().StringSliceVar(&names, "program", []string{release.Agent}, "programs that belong to it")
	must(cmd.MarkFlagRequired("key"))
	must(cmd.MarkFlagRequired("release"))
	return cmd
}

// checkVersions refuses programs that say they are another version than the manifest does: an
// agent would try them at every site of a stage, and go back.
func (a *app) checkVersions(dir string, m *release.Manifest) error {
	for _, f := range m.Files {
		if f.Name != release.Agent {
			continue
		}
		path, err := programIn(dir, f.Name, f.OS, f.Arch)
		if err != nil {
			return err
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		says, err := release.ReadStamp(file)
		if err := errors.Join(err, file.Close()); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		switch {
		case says == "":
			fmt.Fprintf(a.stderr, "%s does not tell its version, as make release has programs do: make sure that it says %s when it is run with the word version\n", path, m.Version)
		case release.Compare(says, m.Version) != 0:
			return usageError("%s is version %s, and no agent would run it as release %s: sign it with --release %s, or build what is to be %s with make release VERSION=v%s",
				path, says, m.Version, strings.TrimPrefix(says, "v"), m.Version, m.Version)
		}
	}
	return nil
}

// programsIn lists the programs in the platforms' folders of a directory.
func programsIn(dir string, names []string) (files []release.File, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, usageError("%w", err)
	}
	for _, e := range entries { // sorted by name
		system, arch, platform := strings.Cut(e.Name(), "-")
		if !e.IsDir() || !platform {
			continue
		}
		for _, name := range slices.Sorted(slices.Values(names)) {
			path, err := programIn(dir, name, system, arch)
			if errors.Is(err, fs.ErrNotExist) {
				continue // not built for this platform
			} else if err != nil {
				return nil, err
			}
			f, err := fileOf(path, name, system, arch)
			if err != nil {
				return nil, err
			}
			files = append(files, f)
		}
	}
	if len(files) == 0 {
		return nil, usageError("%s has no folder such as linux-amd64 with %s in it: make release first", dir, strings.Join(names, " or "))
	}
	return files, nil
}

// programIn finds a program in its platform's folder.
func programIn(dir, name, system, arch string) (string, error) {
	if system == "windows" {
		name += ".exe"
	}
	path := filepath.Join(dir, system+"-"+arch, name)
	info, err := os.Stat(path)
	if err != nil {
		return "", usageError("%w", err)
	}
	if !info.Mode().IsRegular() {
		return "", usageError("%s is not a file", path)
	}
	return path, nil
}
