package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/crossdock/crossdock/controlplane/api"
	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/release"
)

func (a *app) releasesCommand() *cobra.Command {
	cmd := a.group(&cobra.Command{
		Use: "releases", Short: "Versions of the agent: sign, add, roll out in stages, take back",
		Long: `Versions of the agent: sign, add, roll out in stages, take back.

A release is signed where it is built: keygen, once, then sign. The agents verify it with
keys of their own, offline, so that nothing but what was signed runs at a site, whoever
holds the control plane. Add brings a release here; sites fetch it from here and need no
internet. It is approved for its canary sites, where approvals are dual by another person,
then promoted to regions and to all. When an agent fails, at whatever stage, it pauses by
itself. Withdraw brings back the version that is wanted everywhere: add the one that runs
now before the first rollout.`,
	})
	cmd.AddCommand(
		a.releasesKeygen(), a.releasesSign(), a.releasesAdd(), a.releasesList(), a.releasesShow(), a.releasesApprove(), a.releasesPromote(),
		a.steerRelease("pause", "Hold a rollout: what has not begun at a site does not begin"),
		a.steerRelease("resume", "Go on with a paused rollout; agents that failed try again"),
		a.steerRelease("withdraw", "Take a release back, or remove one that was never approved, or was superseded"),
	)
	return cmd
}

func releasePath(version string, more ...string) string {
	path := "/releases/" + url.PathEscape(version)
	for _, m := range more {
		path += "/" + m
	}
	return path
}

func (a *app) releasesAdd() *cobra.Command {
	return &cobra.Command{
		Use: "add DIR", Short: "Bring a signed release to the control plane", Args: cobra.ExactArgs(1),
		Long: `Bring a signed release to the control plane.

DIR holds manifest.json, manifest.json.minisig and the files, as sign leaves them. What is
there already is not sent again, so after an interruption the same command goes on.`,
		RunE: a.ask(func(ctx context.Context, c *client, args []string) error {
			manifest, signature, m, err := readRelease(args[0])
			if err != nil {
				return err
			}
			files, err := releaseFiles(args[0], m)
			if err != nil {
				return err
			}
			var out api.Release
			if err := c.post(ctx, "/releases", api.ReleaseAddition{Manifest: string(manifest), Signature: string(signature)}, &out); err != nil {
				return err
			}
			for _, f := range out.Files {
				if f.Have < f.Size {
					if out, err = sendFile(ctx, c, m.Version, f, files[f.Sha256]); err != nil {
						return err
					}
				}
			}
			return a.show(out, func(w io.Writer) {
				fmt.Fprintf(w, "release %s is %s, signed with key %s\n", clean(out.Version), out.State, clean(out.Key))
				if out.State == api.ReleaseStateReady {
					fmt.Fprintf(w, "%s: crossdock releases approve %s --site SITE\n", a.whoApproves(), clean(out.Version))
				}
			})
		}),
	}
}

// whoApproves begins the line that says how something comes in force.
func (a *app) whoApproves() string {
	if a.single {
		return "approve it yourself, or have it approved"
	}
	return "another person approves it"
}

// readRelease reads manifest and signature of a directory, and what they say.
func readRelease(dir string) (manifest, signature []byte, m *release.Manifest, err error) {
	if manifest, err = os.ReadFile(filepath.Join(dir, release.ManifestFile)); err == nil {
		signature, err = os.ReadFile(filepath.Join(dir, release.SignatureFile))
	}
	if err != nil {
		return nil, nil, nil, usageError("no signed release: %w; make one with crossdock releases sign", err)
	}
	if m, err = release.Read(manifest, signature); err != nil {
		return nil, nil, nil, usageError("%s: %w", dir, err)
	}
	return manifest, signature, m, nil
}

// releaseFiles finds the files of a manifest, by their hashes, and checks each of them.
func releaseFiles(dir string, m *release.Manifest) (map[string]string, error) {
	files := map[string]string{}
	for _, f := range m.Files {
		path, err := programIn(dir, f.Name, f.OS, f.Arch)
		if err != nil {
			return nil, err
		}
		got, err := fileOf(path, f.Name, f.OS, f.Arch)
		if err != nil {
			return nil, err
		}
		if got != f {
			return nil, usageError("%s is not the file that the manifest names: it was changed after signing; sign again", path)
		}
		files[f.SHA256] = path
	}
	return files, nil
}

// sendFile sends what of a file is not there yet.
func sendFile(ctx context.Context, c *client, version string, f api.ReleaseFile, path string) (out api.Release, err error) {
	file, err := os.Open(filepath.Clean(path))
	if err != nil {
		return out, err
	}
	defer file.Close()
	buffer := make([]byte, model.ReleasePiece)
	for at := f.Have; at < f.Size; at += model.ReleasePiece {
		piece := buffer[:min(model.ReleasePiece, f.Size-at)]
		if _, err := file.ReadAt(piece, at); err != nil {
			return out, fmt.Errorf("%s: %w", path, err)
		}
		if err := c.post(ctx, releasePath(version, "files", f.Sha256), api.ReleasePiece{Offset: at, Data: piece}, &out); err != nil {
			return out, fmt.Errorf("%s at byte %d: %w", path, at, err)
		}
	}
	return out, nil
}

func (a *app) releasesList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the releases that are kept", Args: cobra.NoArgs,
		RunE: a.ask(func(ctx context.Context, c *client, _ []string) error {
			var out api.ReleaseList
			if err := c.get(ctx, "/releases", nil, &out); err != nil {
				return err
			}
			return a.show(out, func(w io.Writer) {
				if len(out.Items) == 0 {
					fmt.Fprintln(w, "there are no releases")
					return
				}
				row(w, "VERSION", "STATE", "SITES", "FILES", "ADDED", "BY", "APPROVED BY", "NOTE")
				for i := range out.Items {
					r := &out.Items[i]
					row(w, r.Version, r.State, sitesOf(r), filesHere(r), when(r.Added), r.Author, r.Approver, oneLine(releaseNote(r)))
				}
			})
		}),
	}
}

// sitesOf says which sites a release is for; one that was withdrawn, which are to leave it.
func sitesOf(r *api.Release) string {
	sites := strings.Join(r.Sites, ",")
	if r.Everywhere {
		sites = "all"
	}
	if r.State == api.ReleaseStateWithdrawn && sites != "" {
		return "to leave it: " + sites
	}
	return sites
}

func filesHere(r *api.Release) string {
	here := 0
	for _, f := range r.Files {
		if f.Have == f.Size {
			here++
		}
	}
	return fmt.Sprintf("%d of %d", here, len(r.Files))
}

func releaseNote(r *api.Release) string {
	switch {
	case r.BySelf:
		return "paused by itself: " + r.Reason
	case r.By != "":
		return fmt.Sprintf("by %s: %s", r.By, r.Reason)
	}
	return r.Reason
}

func (a *app) releasesShow() *cobra.Command {
	return &cobra.Command{
		Use: "show VERSION", Short: "Show a release and how far each site has come", Args: cobra.ExactArgs(1),
		Long: `Show a release and how far each site has come.

RUNNING, STATE and SINCE are as the agent last said; OFFLINE is for how long it is not
connected. A site that is offline goes on with what it has, and follows when it is back.
Approve takes the digest that is shown here.`,
		RunE: a.ask(func(ctx context.Context, c *client, args []string) error {
			var out api.ReleaseReport
			if err := c.get(ctx, releasePath(args[0]), nil, &out); err != nil {
				return err
			}
			return a.show(out, func(w io.Writer) { writeReleaseReport(w, &out) })
		}),
	}
}

func writeReleaseReport(w io.Writer, out *api.ReleaseReport) {
	r := &out.Release
	row(w, "release", r.Version)
	row(w, "state", r.State)
	if note := releaseNote(r); note != "" {
		row(w, "note", oneLine(note))
	}
	row(w, "sites", sitesOf(r))
	row(w, "digest", r.Digest)
	row(w, "signed by", r.Key)
	row(w, "added", when(r.Added)+" by "+r.Author)
	if r.Approver != "" {
		row(w, "approved", when(r.Approved)+" by "+r.Approver)
	}
	row(w, "files", filesHere(r))
	fmt.Fprintln(w)
	items := slices.Clone(out.Items)
	slices.SortFunc(items, func(x, y api.ReleaseSite) int { return strings.Compare(x.Site, y.Site) })
	counts := map[string]int{}
	row(w, "SITE", "RUNNING", "WANTED", "STATE", "SINCE", "OFFLINE", "WHY")
	for i := range items {
		s := &items[i]
		offline := ""
		if !s.Connected {
			offline = age(s.LastSeen)
			counts["offline"]++
		}
		counts[string(s.State)]++
		running := s.Running
		if !strings.HasPrefix(r.Version, "v") { // releases are called as they were signed
			running = shortVersion(running)
		}
		row(w, s.Site, running, s.Wanted, s.State, when(s.Since), offline, oneLine(s.Why))
	}
	fmt.Fprintln(w)
	for _, state := range slices.Sorted(maps.Keys(counts)) {
		row(w, state, counts[state])
	}
}

// stageFlags are the sites that a stage takes in.
type stageFlags struct {
	sites, regions []string
	all            bool
}

func (f *stageFlags) on(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&f.sites, "site", nil, "sites of the stage, such as eu-rotterdam,na-dallas")
	cmd.Flags().StringSliceVar(&f.regions, "region", nil, "regions: all sites that the policy in force has in them")
	cmd.Flags().BoolVar(&f.all, "all", false, "every site, also those that come later")
	cmd.MarkFlagsOneRequired("site", "region", "all")
	cmd.MarkFlagsMutuallyExclusive("site", "all")
	cmd.MarkFlagsMutuallyExclusive("region", "all")
}

func (a *app) releasesApprove() *cobra.Command {
	var stage stageFlags
	var digest string
	cmd := &cobra.Command{
		Use: "approve VERSION --site SITE", Short: "Begin the rollout of a release", Args: cobra.ExactArgs(1),
		Long: `Begin the rollout of a release.

Shows the manifest and approves exactly that. With --digest, only the manifest that you
have looked at elsewhere is approved. The sites named are its canary sites. Where approvals
are dual, another person than who added it approves it.`,
		RunE: a.ask(func(ctx context.Context, c *client, args []string) error {
			if digest == "" {
				var seen api.ReleaseReport
				if err := c.get(ctx, releasePath(args[0]), nil, &seen); err != nil {
					return err
				}
				digest = seen.Release.Digest
				fmt.Fprintf(a.stderr, "%s\nsigned with key %s, added by %s, digest %s\n", clean(strings.TrimSpace(seen.Manifest)), clean(seen.Release.Key), clean(seen.Release.Author), digest)
			}
			var out api.Release
			in := api.ReleaseApproval{Digest: digest, Sites: stage.sites, Regions: stage.regions}
			if err := c.post(ctx, releasePath(args[0], "approve"), in, &out); err != nil {
				return err
			}
			return a.show(out, func(w io.Writer) { writeStage(w, &out) })
		}),
	}
	stage.on(cmd)
	cmd.Flags().StringVar(&digest, "digest", "", "approve only if the manifest has this digest")
	return cmd
}

func (a *app) releasesPromote() *cobra.Command {
	var stage stageFlags
	cmd := &cobra.Command{
		Use: "promote VERSION --region REGION | --all", Short: "Widen the rollout of a release", Args: cobra.ExactArgs(1),
		RunE: a.ask(func(ctx context.Context, c *client, args []string) error {
			var out api.Release
			if err := c.post(ctx, releasePath(args[0], "promote"), api.ReleaseScope{Sites: stage.sites, Regions: stage.regions}, &out); err != nil {
				return err
			}
			return a.show(out, func(w io.Writer) { writeStage(w, &out) })
		}),
	}
	stage.on(cmd)
	return cmd
}

func (a *app) steerRelease(verb, short string) *cobra.Command {
	var in api.ReleaseReason
	cmd := &cobra.Command{
		Use: verb + " VERSION", Short: short, Args: cobra.ExactArgs(1),
		RunE: a.ask(func(ctx context.Context, c *client, args []string) error {
			var out api.Release
			if err := c.post(ctx, releasePath(args[0], verb), in, &out); err != nil {
				return err
			}
			return a.show(out, func(w io.Writer) { writeStage(w, &out) })
		}),
	}
	cmd.Flags().StringVarP(&in.Reason, "message", "m", "", "why; it stands in the audit")
	return cmd
}

func writeStage(w io.Writer, r *api.Release) {
	version := clean(r.Version)
	switch r.State {
	case api.ReleaseStateCanary:
		fmt.Fprintf(w, "release %s is wanted at %s\nhow far they are: crossdock releases show %s\nfurther: crossdock releases promote %s --region REGION | --all\n",
			version, clean(strings.Join(r.Sites, ", ")), version, version)
	case api.ReleaseStateActive:
		fmt.Fprintf(w, "release %s is wanted everywhere\n", version)
	case api.ReleaseStatePaused:
		fmt.Fprintf(w, "release %s is paused; what has begun at a site goes on\n", version)
	case api.ReleaseStateWithdrawn:
		fmt.Fprintf(w, "release %s is withdrawn\n", version)
	case api.ReleaseStateReady, api.ReleaseStateSuperseded, api.ReleaseStateUploading:
		fmt.Fprintf(w, "release %s is %s\n", version, r.State)
	}
}

// fileOf describes a file as a manifest does.
func fileOf(path, name, system, arch string) (f release.File, err error) {
	file, err := os.Open(filepath.Clean(path))
	if err != nil {
		return f, usageError("%w", err)
	}
	defer file.Close()
	sum := sha256.New()
	size, err := io.Copy(sum, io.LimitReader(file, release.MaxFile+1)) // one more, which no manifest takes
	if err != nil {
		return f, fmt.Errorf("%s: %w", path, err)
	}
	return release.File{Name: name, OS: system, Arch: arch, Size: size, SHA256: hex.EncodeToString(sum.Sum(nil))}, nil
}
