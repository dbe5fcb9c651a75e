package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/crossdock/crossdock/controlplane/plugincheck"
	"github.com/crossdock/crossdock/protocol/policy"
)

func (a *app) pluginCommand() *cobra.Command {
	cmd := a.group(&cobra.Command{Use: "plugin", Short: "Look at the programs of carrier and tax plugins"})
	var dir string
	verify := &cobra.Command{
		Use: "verify PROGRAM...", Short: "Say what a plugin's program is, and whether a policy fits it; needs no server", Args: cobra.MinimumNArgs(1),
		Long: `Say what a plugin's program is, and whether a policy fits it; needs no server.

Prints for which system the program is and its SHA-256, as a Plugin document names it. What
can run on this machine is started as an agent does it, without anything of your environment,
and asked what it is and which settings it wants; it is not configured. Do not try programs
that you do not trust.

With --policy the documents that name the program are compared: hash, kind and settings. The
exit code is 1 if one of them does not fit, or if a program cannot be read or does not serve.`,
		RunE: a.do(func(ctx context.Context, args []string) error { return a.verifyPlugins(ctx, dir, args) }),
	}
	verify.Flags().StringVar(&dir, "policy", "", "folder of the policy to compare with")
	cmd.AddCommand(verify)
	return cmd
}

// verified is what verify shows of one program.
type verified struct {
	Program    string            `json:"program"`
	Platform   string            `json:"platform"`
	SHA256     string            `json:"sha256"`
	Kind       string            `json:"kind,omitempty"`
	Name       string            `json:"name,omitempty"`
	Version    string            `json:"version,omitempty"`
	Operations []string          `json:"operations,omitempty"`
	Settings   []verifiedSetting `json:"settings,omitempty"`
	Plugins    []string          `json:"plugins,omitempty"` // of the policy, that name the program
	Note       string            `json:"note,omitempty"`
	Faults     []string          `json:"faults"`
}

type verifiedSetting struct {
	Name     string `json:"name"`
	Required bool   `json:"required"`
	Secret   bool   `json:"secret"`
	Help     string `json:"help"`
}

func (a *app) verifyPlugins(ctx context.Context, dir string, programs []string) error {
	var set *policy.Set
	if dir != "" {
		bundle, err := readBundle(dir)
		if err != nil {
			return err
		}
		var problems policy.Problems
		if set, problems = policy.Compile(bundle); set == nil {
			writeProblems(a.stderr, dir, problems)
			return &exitError{exitFailed, fmt.Errorf("%s has errors", dir)}
		}
	}
	out, failed := []verified{}, false
	for _, path := range programs {
		one := verifyPlugin(ctx, path, set)
		failed = failed || len(one.Faults) > 0
		out = append(out, one)
	}
	err := a.show(out, func(w io.Writer) {
		for i := range out {
			writeVerified(w, &out[i])
		}
	})
	if err == nil && failed {
		return &exitError{exitFailed, errors.New("not all is as it should be; see above")}
	}
	return err
}

func verifyPlugin(ctx context.Context, path string, set *policy.Set) verified {
	out := verified{Program: path, Faults: []string{}}
	program, err := plugincheck.Read(path)
	if err != nil {
		out.Faults = append(out.Faults, err.Error())
		return out
	}
	out.Platform, out.SHA256 = program.Platform, program.Sum
	var self *plugincheck.Self
	if program.Platform != "" && program.Platform != plugincheck.Here {
		out.Note = "it was not started: this machine is " + plugincheck.Here
	} else if self, err = program.Ask(ctx); err != nil {
		out.Faults = append(out.Faults, err.Error())
	} else {
		out.Kind, out.Name, out.Version = self.Kind, self.Name, self.Version
		for _, o := range self.Operations {
			out.Operations = append(out.Operations, o.Name)
		}
		for _, s := range self.Config {
			out.Settings = append(out.Settings, verifiedSetting{s.Name, s.Required, s.Secret, s.Help})
		}
	}
	if set == nil {
		return out
	}
	uses := program.Uses(set)
	if len(uses) == 0 {
		out.Faults = append(out.Faults, "no plugin of the policy has program "+program.Name())
	}
	for _, doc := range uses {
		out.Plugins = append(out.Plugins, doc.Name)
		for _, fault := range program.Misfits(doc, self) {
			out.Faults = append(out.Faults, fmt.Sprintf("%s:%d: plugin %s: %s", doc.File, doc.Line, doc.Name, fault))
		}
	}
	return out
}

func writeVerified(w io.Writer, v *verified) {
	row(w, v.Program)
	if v.SHA256 != "" {
		row(w, "  sha256", v.Platform+": "+v.SHA256)
	}
	if v.Kind != "" {
		row(w, "  is", fmt.Sprintf("%s %s, version %s", v.Kind, v.Name, v.Version))
	}
	if len(v.Operations) > 0 {
		row(w, "  can", strings.Join(v.Operations, ", "))
	}
	for _, s := range v.Settings {
		text := s.Name
		if s.Required {
			text += ", required"
		}
		if s.Secret {
			text += ", secret"
		}
		row(w, "  setting", text+": "+oneLine(s.Help))
	}
	for _, name := range v.Plugins {
		row(w, "  policy", "plugin "+name)
	}
	if v.Note != "" {
		row(w, "  note", v.Note)
	}
	for _, fault := range v.Faults {
		row(w, "  FAULT", oneLine(fault))
	}
}
