package state

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/release"
)

type (
	releaseText    struct{ Manifest, Signature []byte }
	releaseFileRow struct {
		Size int64
		Have int64 // bytes in pieces; all of them, and they are what the hash says, when it is Size
	}
)

func releaseKey(version string) []byte { return []byte(version) }

func pieceKey(sha string, number int64) []byte { return key(sha, uint64(number)) } //nolint:gosec // an offset that was checked, divided

// releases lists what is kept, the oldest first.
func (v view) releases() (list []*model.Release) {
	v.each(tableReleases, nil, nil, func(k, value []byte) bool {
		list = append(list, parse[model.Release](tableReleases, k, value))
		return true
	})
	slices.SortStableFunc(list, func(a, b *model.Release) int { return a.Added.Compare(b.Added) })
	return list
}

func (t *tx) releaseRow(version string) (*model.Release, *model.Error) {
	if r := get[model.Release](t.view, tableReleases, releaseKey(version)); r != nil {
		return r, nil
	}
	return nil, model.Errorf(model.NotFound, "there is no release %s", clip(version, release.MaxVersion))
}

func (t *tx) putRelease(r *model.Release) {
	put(t, tableReleases, releaseKey(r.Version), r)
	t.changed("releases")
}

func (t *tx) addRelease(c *model.AddRelease) *model.Error {
	if err := t.need(c.By, model.Author); err != nil {
		return err
	}
	if err := checkRelease(c); err != nil {
		return err
	}
	if had := get[model.Release](t.view, tableReleases, releaseKey(c.Version)); had != nil {
		if had.Digest != c.Digest {
			return model.Errorf(model.Conflict, "there is a release %s already, with another manifest: a version never changes; give this one another", c.Version)
		}
		return nil
	}
	drop, err := t.makeRoom(c.Files)
	if err != nil {
		return err
	}
	for _, old := range drop {
		t.dropRelease(old)
		t.audit(c.At, c.By, "release.drop", old.Version, map[string]any{"for": c.Version, "state": old.State})
	}
	r := &model.Release{Version: c.Version, Digest: c.Digest, Key: c.Key, State: model.ReleaseUploading, Author: c.By, Added: c.At}
	for _, f := range c.Files {
		r.Files = append(r.Files, model.ReleaseFile{SHA256: f.SHA256, Size: f.Size})
		if get[releaseFileRow](t.view, tableReleaseFiles, []byte(f.SHA256)) == nil {
			put(t, tableReleaseFiles, []byte(f.SHA256), &releaseFileRow{Size: f.Size})
		}
	}
	put(t, tableReleaseTexts, releaseKey(c.Version), &releaseText{c.Manifest, c.Signature})
	t.audit(c.At, c.By, "release.add", c.Version, map[string]any{"digest": hexOf(c.Digest), "key": c.Key, "files": len(c.Files)})
	t.completeRelease(r) // another one may have brought all of its files
	t.putRelease(r)
	return nil
}

func checkRelease(c *model.AddRelease) *model.Error {
	switch {
	case !release.ValidVersion(c.Version):
		return model.Errorf(model.Invalid, "%q is no version", clip(c.Version, release.MaxVersion))
	case len(c.Manifest) == 0 || len(c.Manifest) > release.MaxManifest || len(c.Signature) == 0 || len(c.Signature) > release.MaxSignature ||
		len(c.Key) > maxName || c.Digest != sha256.Sum256(c.Manifest):
		return model.Errorf(model.Invalid, "release %s needs a manifest with its digest, and a signature", c.Version)
	case len(c.Files) == 0 || len(c.Files) > release.MaxFiles:
		return model.Errorf(model.Invalid, "release %s has %d files; it takes 1 to %d", c.Version, len(c.Files), release.MaxFiles)
	}
	seen := map[string]bool{}
	for _, f := range c.Files {
		if !release.ValidHash(f.SHA256) || f.Size <= 0 || f.Size > release.MaxFile || seen[f.SHA256] {
			return model.Errorf(model.Invalid, "release %s: a file needs a SHA-256 that no other has, and 1 to %d bytes", c.Version, release.MaxFile)
		}
		seen[f.SHA256] = true
	}
	return nil
}

// makeRoom finds what has to go so that a release with these files can be kept: first what
// was taken back, then what was superseded, then what nobody approved; the oldest of each.
func (t *tx) makeRoom(files []model.ReleaseFile) (drop []*model.Release, err *model.Error) {
	kept := t.releases()
	needed := map[string]bool{} // what withdraw goes back to
	for _, r := range kept {
		if r.State == model.ReleaseActive || r.State == model.ReleasePaused && r.All {
			needed[r.Before] = true
		}
	}
	for len(kept) >= model.MaxReleases || releaseBytes(kept, files) > model.MaxReleaseBytes {
		at := -1
		for i, r := range kept {
			if rank := dropRank(r.State); rank > 0 && !needed[r.Version] && (at < 0 || rank > dropRank(kept[at].State)) {
				at = i
			}
		}
		if at < 0 {
			return nil, model.Errorf(model.TooLarge, "%d releases are in use or the one to go back to, and with this one there would be %d MB of files; the limits are %d releases and %d MB: promote one to all, or withdraw one",
				len(kept), releaseBytes(kept, files)>>20, model.MaxReleases, model.MaxReleaseBytes>>20)
		}
		drop, kept = append(drop, kept[at]), slices.Delete(kept, at, at+1)
	}
	return drop, nil
}

// dropRank says how well a release can be done without; 0: it cannot.
func dropRank(state model.ReleaseState) int {
	switch state {
	case model.ReleaseWithdrawn:
		return 3
	case model.ReleaseSuperseded:
		return 2
	case model.ReleaseUploading, model.ReleaseReady:
		return 1
	case model.ReleaseCanary, model.ReleasePaused, model.ReleaseActive:
	}
	return 0
}

func releaseBytes(kept []*model.Release, files []model.ReleaseFile) (sum int64) {
	seen := map[string]bool{}
	add := func(files []model.ReleaseFile) {
		for _, f := range files {
			if !seen[f.SHA256] {
				seen[f.SHA256] = true
				sum += f.Size
			}
		}
	}
	for _, r := range kept {
		add(r.Files)
	}
	add(files)
	return sum
}

// dropRelease removes a release, and those of its files that no other has.
func (t *tx) dropRelease(r *model.Release) {
	t.remove(tableReleases, releaseKey(r.Version))
	t.remove(tableReleaseTexts, releaseKey(r.Version))
	others := map[string]bool{}
	for _, other := range t.releases() {
		for _, f := range other.Files {
			others[f.SHA256] = true
		}
	}
	for _, f := range r.Files {
		if !others[f.SHA256] {
			t.dropPieces(f.SHA256)
			t.remove(tableReleaseFiles, []byte(f.SHA256))
		}
	}
	t.changed("releases")
}

func (t *tx) dropPieces(sha string) {
	var keys [][]byte
	t.each(tableReleasePieces, key(sha), nil, func(k, _ []byte) bool {
		keys = append(keys, slices.Clone(k))
		return true
	})
	for _, k := range keys {
		t.remove(tableReleasePieces, k)
	}
}

func (t *tx) putReleasePiece(c *model.PutReleasePiece) *model.Error {
	if err := t.need(c.By, model.Author); err != nil {
		return err
	}
	if !release.ValidHash(c.SHA256) {
		return model.Errorf(model.Invalid, "%q is no SHA-256", clip(c.SHA256, maxName))
	}
	row := get[releaseFileRow](t.view, tableReleaseFiles, []byte(c.SHA256))
	switch {
	case row == nil:
		return model.Errorf(model.NotFound, "no release has a file with the SHA-256 %s: add its manifest first", c.SHA256)
	case c.Offset < 0 || c.Offset >= row.Size || c.Offset%model.ReleasePiece != 0 || int64(len(c.Data)) != min(model.ReleasePiece, row.Size-c.Offset):
		return model.Errorf(model.Invalid, "a piece of %d bytes at %d: pieces of this file of %d bytes begin at multiples of %d and go to the next",
			len(c.Data), c.Offset, row.Size, model.ReleasePiece)
	case c.Offset < row.Have:
		return nil // a repeat; what it brings is checked with the whole
	case c.Offset > row.Have:
		return model.Errorf(model.Conflict, "a piece at %d of file %s, of which %d bytes are here: go on from there", c.Offset, c.SHA256, row.Have)
	}
	put(t, tableReleasePieces, pieceKey(c.SHA256, c.Offset/model.ReleasePiece), &bytesRow{c.Data})
	row.Have += int64(len(c.Data))
	var refused *model.Error
	if row.Have == row.Size {
		if got := t.hashPieces(c.SHA256); got != c.SHA256 {
			// The one refusal that changes something: what is here is no part of the file.
			t.dropPieces(c.SHA256)
			row.Have = 0
			refused = model.Errorf(model.Invalid, "the file that was sent has the SHA-256 %s, the manifest says %s: send it again from the start", got, c.SHA256)
		}
	}
	put(t, tableReleaseFiles, []byte(c.SHA256), row)
	if row.Have == row.Size {
		t.fileComplete(c)
	}
	t.changed("releases/files")
	return refused
}

// hashPieces is the SHA-256 of what is here of a file.
func (t *tx) hashPieces(sha string) string {
	sum := sha256.New()
	t.each(tableReleasePieces, key(sha), nil, func(k, value []byte) bool {
		sum.Write(parse[bytesRow](tableReleasePieces, k, value).Bytes)
		return true
	})
	return hex.EncodeToString(sum.Sum(nil))
}

// fileComplete looks which releases have all of their files now.
func (t *tx) fileComplete(c *model.PutReleasePiece) {
	for _, r := range t.releases() {
		if r.State == model.ReleaseUploading && slices.ContainsFunc(r.Files, func(f model.ReleaseFile) bool { return f.SHA256 == c.SHA256 }) {
			t.audit(c.At, c.By, "release.file", r.Version, map[string]any{"sha256": c.SHA256})
			t.completeRelease(r)
			t.putRelease(r)
		}
	}
}

func (t *tx) completeRelease(r *model.Release) {
	for _, f := range r.Files {
		if row := get[releaseFileRow](t.view, tableReleaseFiles, []byte(f.SHA256)); row == nil || row.Have != row.Size {
			return
		}
	}
	r.State = model.ReleaseReady
}

// Releases lists the releases that are kept, the oldest first.
func (r *Reader) Releases() (list []model.Release) {
	r.read(func(v view) {
		for _, row := range v.releases() {
			for i := range row.Files {
				if file := get[releaseFileRow](v, tableReleaseFiles, []byte(row.Files[i].SHA256)); file != nil {
					row.Files[i].Have = file.Have
				}
			}
			list = append(list, *row)
		}
	})
	return list
}

// WantedRelease is what a site is to run.
func (r *Reader) WantedRelease(site string) (wanted model.WantedRelease) {
	r.read(func(v view) {
		row := v.wantedRelease(site)
		if row == nil {
			wanted.Withdrawn, wanted.Stage = v.withdrawnFrom(site)
			return
		}
		text := get[releaseText](v, tableReleaseTexts, releaseKey(row.Version))
		if text == nil {
			panic(fault{fmt.Errorf("release %s has no manifest", row.Version)})
		}
		wanted = model.WantedRelease{Version: row.Version, Stage: row.Stage(), Manifest: text.Manifest, Signature: text.Signature}
	})
	return wanted
}

// WantedStage is which release a site is to run, and in which stage; empty: none. A stage
// without a version is that of a release that the site is to leave.
func (r *Reader) WantedStage(site string) (version, stage string) {
	r.read(func(v view) {
		if row := v.wantedRelease(site); row != nil {
			version, stage = row.Version, row.Stage()
		} else {
			_, stage = v.withdrawnFrom(site)
		}
	})
	return version, stage
}

// ReleaseManifest is the manifest of a release as it was signed.
func (r *Reader) ReleaseManifest(version string) ([]byte, bool) {
	text, ok := one[releaseText](r, tableReleaseTexts, releaseKey(version))
	return text.Manifest, ok
}

// wantedRelease finds the release whose rollout has come to a site, else the active one; nil
// where there is none, or it is paused. A pause of what was active holds no other rollout.
func (v view) wantedRelease(site string) (wanted *model.Release) {
	paused := false
	for _, r := range v.releases() {
		here := r.All || slices.Contains(r.Sites, site)
		switch {
		case r.State == model.ReleaseCanary && here:
			return r
		case r.State == model.ReleasePaused && here:
			paused = true
		case r.State == model.ReleaseActive:
			wanted = r
		}
	}
	if paused {
		return nil
	}
	return wanted
}

// withdrawnFrom lists the releases that were taken back from a site without another in their
// place, and gives the stage of the last one. It counts where none is wanted there.
func (v view) withdrawnFrom(site string) (versions []string, stage string) {
	var last time.Time
	for _, r := range v.releases() {
		if !r.Left(site) {
			continue
		}
		versions = append(versions, r.Version)
		if stage == "" || !r.Stepped.Before(last) {
			stage, last = r.Stage(), r.Stepped
		}
	}
	return versions, stage
}

// ReleaseData gives bytes of a file that is whole: from an offset to the end of its piece,
// and at most max.
func (r *Reader) ReleaseData(sha string, offset int64, most int) (data []byte, size int64, ok bool) {
	if offset < 0 || !release.ValidHash(sha) {
		return nil, 0, false
	}
	r.read(func(v view) {
		row := get[releaseFileRow](v, tableReleaseFiles, []byte(sha))
		if row == nil || row.Have != row.Size {
			return
		}
		size, ok = row.Size, true
		if offset >= row.Size {
			return
		}
		k := pieceKey(sha, offset/model.ReleasePiece)
		piece := get[bytesRow](v, tableReleasePieces, k)
		within := offset % model.ReleasePiece
		if piece == nil || within >= int64(len(piece.Bytes)) {
			panic(fault{fmt.Errorf("file %s of a release has no piece at %d", sha, offset)})
		}
		data = piece.Bytes[within:]
		data = data[:min(len(data), max(most, 0))]
	})
	return data, size, ok
}

// stepRelease notes that a rollout goes another way from here on.
func (t *tx) stepRelease(r *model.Release, state model.ReleaseState, by, reason string, at time.Time) {
	r.State, r.By, r.Reason, r.Stepped = state, by, clip(reason, maxText/2), at
	r.Step++
	r.Life = t.cluster().Generation
	t.putRelease(r)
}
