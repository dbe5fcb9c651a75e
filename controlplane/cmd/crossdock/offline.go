package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/crossdock/crossdock/controlplane"
	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/controlplane/peer"
	"github.com/crossdock/crossdock/protocol/atomicfile"
	"github.com/crossdock/crossdock/protocol/transport"
)

// nodeError gives what a node's data directory refuses its exit code.
func nodeError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, controlplane.ErrConfig), errors.Is(err, fs.ErrNotExist): // a file that was named
		return &exitError{exitUsage, err}
	case errors.Is(err, controlplane.ErrInUse), errors.Is(err, controlplane.ErrNotEmpty):
		return &exitError{exitConflict, err}
	case errors.Is(err, controlplane.ErrNotRunning):
		return &exitError{exitUnreachable, err}
	}
	return err
}

// confirm asks for a word, unless it was given as a flag.
func (a *app) confirm(sure bool, warning string) error {
	fmt.Fprintln(a.stderr, clean(warning))
	if sure {
		return nil
	}
	fmt.Fprint(a.stderr, "Type yes to go on: ")
	line, err := bufio.NewReader(io.LimitReader(a.stdin, maxLine)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if strings.TrimSpace(line) != "yes" {
		return &exitError{exitFailed, errors.New("not confirmed; nothing was done (a script gives --yes)")}
	}
	return nil
}

const maxLine = 1 << 10 // bytes of an answer, or of a token that is read

// warnings is the log of a command that works on a data directory.
func (a *app) warnings() *slog.Logger {
	return slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// serverCall is how the node is started that a command has prepared.
func (a *app) serverCall(file string) string {
	text := "crossdock server"
	if file != "" {
		text += " --config " + file
	}
	if a.client.data != "" {
		text += " --data " + a.client.data
	}
	return text
}

// joinAnswer is what join shows as JSON.
type joinAnswer struct {
	Node string `json:"node"`
	Data string `json:"data"`
	Next string `json:"next"`
}

func (a *app) clusterJoin() *cobra.Command {
	var file, token string
	var cmd *cobra.Command
	cmd = &cobra.Command{
		Use: "join ADDRESS --token TOKEN --config FILE", Short: "Prepare this machine as another node of a cluster", Args: cobra.ExactArgs(1),
		Long: `Prepare this machine as another node of a cluster.

ADDRESS is cluster.listen of a node that runs, such as hub1.example:7460. The token is
made there, for this node's name: crossdock token create --node NAME. The configuration
says the name (node) and where the others reach it (cluster). The data directory must
be empty; afterwards the server is started on it as always.`,
		RunE: a.do(func(ctx context.Context, args []string) error {
			config, err := a.serverConfig(file, cmd.Flags())
			if err != nil {
				return err
			}
			if token, err = a.joinToken(token); err != nil {
				return err
			}
			if err := controlplane.Join(ctx, config, token, args[0], a.warnings()); err != nil {
				return joinError(err)
			}
			out := joinAnswer{Node: config.Node, Data: config.Data, Next: a.serverCall(file)}
			return a.show(out, func(w io.Writer) {
				fmt.Fprintf(w, "%s is ready to join, in %s\nnow start it: %s\nit votes as soon as it has caught up: crossdock cluster status\n",
					clean(out.Node), clean(out.Data), out.Next)
			})
		}),
	}
	configFlag(cmd, &file)
	cmd.Flags().StringVar(&token, "token", "", "join token for this node; - reads it from stdin")
	must(cmd.MarkFlagRequired("token"))
	return cmd
}

// joinToken gives the token of the command line, or what comes on stdin for it.
func (a *app) joinToken(flag string) (string, error) {
	if flag != "-" {
		return strings.TrimSpace(flag), nil
	}
	line, err := bufio.NewReader(io.LimitReader(a.stdin, maxLine)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	if line = strings.TrimSpace(line); line == "" {
		return "", usageError("--token -: nothing came on stdin; give it the token that crossdock token create --node NAME has shown")
	}
	return line, nil
}

// joinError gives what keeps a node from joining its exit code.
func joinError(err error) error {
	var refused *model.Error
	switch {
	case errors.Is(err, transport.ErrToken), errors.Is(err, peer.ErrAddress):
		return &exitError{exitUsage, err}
	case errors.Is(err, peer.ErrForeign):
		return &exitError{exitDenied, err}
	case errors.As(err, &refused):
		return &exitError{exitOf(string(refused.Code)), err}
	}
	return nodeError(err)
}

func (a *app) clusterBackup() *cobra.Command {
	var out, verify string
	cmd := &cobra.Command{
		Use: "backup --out FILE | --verify FILE", Short: "Write a backup, or check one", Args: cobra.NoArgs,
		Long: `Write a backup, or check one.

A backup holds the whole state and the keys of the cluster: keep it as you keep passwords.
The file is checked before it gets its name, and takes the place of an older one.`,
		RunE: a.do(func(ctx context.Context, _ []string) error {
			if verify != "" {
				info, err := controlplane.VerifyBackup(verify)
				if err != nil {
					return nodeError(err)
				}
				return a.show(info, func(w io.Writer) { writeBackup(w, verify, &info) })
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			info, err := fetchBackup(ctx, c, out)
			if err != nil {
				return err
			}
			return a.show(info, func(w io.Writer) { writeBackup(w, out, &info) })
		}),
	}
	cmd.Flags().StringVar(&out, "out", "", "file to write")
	cmd.Flags().StringVar(&verify, "verify", "", "file to check; needs no server")
	cmd.MarkFlagsOneRequired("out", "verify")
	cmd.MarkFlagsMutuallyExclusive("out", "verify")
	return cmd
}

func writeBackup(w io.Writer, file string, info *controlplane.BackupInfo) {
	row(w, "file", file)
	row(w, "cluster", info.Cluster)
	row(w, "generation", info.Generation)
	row(w, "taken", fmt.Sprintf("%s on %s", when(info.At), info.Node))
	row(w, "up to entry", info.Index)
	row(w, "version", shortVersion(info.Version))
	row(w, "whole", "yes, by its SHA-256")
}

// fetchBackup leaves a whole and checked file under its name, or none.
func fetchBackup(ctx context.Context, c *client, file string) (info controlplane.BackupInfo, err error) {
	temp, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*") // 0600
	if err != nil {
		return info, usageError("--out: %w", err)
	}
	defer func() {
		temp.Close()
		if err != nil {
			os.Remove(temp.Name())
		}
	}()
	if err := c.download(ctx, "/cluster/backup", temp); err != nil {
		return info, err
	}
	if err := temp.Sync(); err != nil {
		return info, err
	}
	if err := temp.Close(); err != nil {
		return info, err
	}
	if info, err = controlplane.VerifyBackup(temp.Name()); err != nil {
		return info, fmt.Errorf("what came is no whole backup, and was thrown away: %w", err)
	}
	if err := os.Rename(temp.Name(), file); err != nil {
		return info, err
	}
	return info, atomicfile.SyncDir(filepath.Dir(file))
}

func (a *app) clusterRestore() *cobra.Command {
	var file string
	var sure bool
	var cmd *cobra.Command
	cmd = &cobra.Command{
		Use: "restore BACKUP", Short: "Begin the cluster anew from a backup, on this node", Args: cobra.ExactArgs(1),
		Long: `Begin the cluster anew from a backup, on this node.

For when no node is left: while one lives, join new nodes to it, or recover from it.
The data directory must be empty. The cluster goes on with this one node, in a new
generation; agents keep what they hold and send again what the backup does not know.`,
		RunE: a.do(func(ctx context.Context, args []string) error {
			config, err := a.serverConfig(file, cmd.Flags())
			if err != nil {
				return err
			}
			out, err := controlplane.Restore(ctx, config, args[0], func(info controlplane.BackupInfo) error {
				return a.confirm(sure, fmt.Sprintf(`Restores cluster %s from a backup of %s, into %s.
Changes made after that are gone unless an agent still knows them. If a node of this cluster
still runs anywhere, stop now: two lives of one cluster must not run at once.`, info.Cluster, when(info.At), config.Data))
			}, a.warnings())
			if err != nil {
				return nodeError(err)
			}
			return a.show(out, func(w io.Writer) { a.writeRebuilt(w, &out, file, config.Data) })
		}),
	}
	configFlag(cmd, &file)
	cmd.Flags().BoolVar(&sure, "yes", false, "do not ask")
	return cmd
}

func (a *app) clusterRecover() *cobra.Command {
	var file string
	var sure bool
	var cmd *cobra.Command
	cmd = &cobra.Command{
		Use: "recover", Short: "Go on with this node alone, when a majority is lost for good", Args: cobra.NoArgs,
		Long: `Go on with this node alone, when a majority is lost for good.

The server must be stopped. Of several survivors take the one with the highest
applied entry (crossdock cluster status on each). What others had and this one had not
may be missing afterwards; everything that this node has is kept.`,
		RunE: a.do(func(ctx context.Context, _ []string) error {
			config, err := a.serverConfig(file, cmd.Flags())
			if err != nil {
				return err
			}
			out, err := controlplane.Recover(ctx, config, func() error {
				return a.confirm(sure, fmt.Sprintf(`Makes %s, in %s, the only node of its cluster.
If any other node still runs or can be started again, stop now: start it instead, a majority
loses nothing. Afterwards the others must never be started with the data they have.`, config.Node, config.Data))
			}, a.warnings())
			if err != nil {
				return nodeError(err)
			}
			return a.show(out, func(w io.Writer) { a.writeRebuilt(w, &out, file, config.Data) })
		}),
	}
	configFlag(cmd, &file)
	cmd.Flags().BoolVar(&sure, "yes", false, "do not ask")
	return cmd
}

// writeRebuilt says what a person has to know and to do after a restore or a recovery.
func (a *app) writeRebuilt(w io.Writer, r *controlplane.RebuiltInfo, file, data string) {
	fmt.Fprintf(w, "cluster %s begins another life on %s, with everything up to entry %d of %s\n", r.Cluster, r.Node, r.Index, when(r.From))
	if len(r.Missing) > 0 {
		fmt.Fprintln(w, "\nwhat may be missing:")
		for _, line := range r.Missing {
			fmt.Fprintf(w, "  - %s\n", oneLine(clean(line)))
		}
	}
	fmt.Fprintf(w, `
what to do next:
  1. start it: %[1]s
  2. look: crossdock cluster status --data %[2]s, and crossdock exceptions
     the token of an administrator is then in %[3]s; tokens that you have kept stay good
  3. other nodes are refused with the data they have: empty their data directories, then for each
     crossdock token create --node NAME, and there crossdock cluster join
  4. take a backup: crossdock cluster backup --out FILE
`, a.serverCall(file), data, controlplane.FilesIn(data).AdminToken)
}
