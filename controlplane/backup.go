package controlplane

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"time"

	"github.com/crossdock/crossdock/controlplane/pki"
)

// A backup is one file: magic, length of the header in four bytes, the header as JSON, the
// sealing key, the state as its own snapshot, and the SHA-256 of all before it.
var backupMagic = [8]byte{'X', 'D', 'B', 'A', 'C', 'K', 'U', '1'}

const maxBackupHeader = 64 << 10

// ErrBackup marks a file that is not a whole backup.
var ErrBackup = errors.New("not a whole backup")

// BackupInfo is what a backup says of itself.
type BackupInfo struct {
	Cluster     string    `json:"cluster"`
	Incarnation string    `json:"incarnation"`
	Generation  uint64    `json:"generation"`
	Node        string    `json:"node"`  // that wrote it
	Index       uint64    `json:"index"` // entry up to which all is in it, at least
	At          time.Time `json:"at"`
	Version     string    `json:"version"`
}

// writeBackup writes the state as it is now.
func (c *ControlPlane) writeBackup(to io.Writer) error {
	seal, err := pki.ReadSeal(FilesIn(c.config.Data).pki)
	if err != nil {
		return err
	}
	cluster, _ := c.store.Cluster()
	header, err := json.Marshal(BackupInfo{
		Cluster: cluster.ID, Incarnation: cluster.Incarnation, Generation: cluster.Generation, Node: c.id.Node,
		Index: c.store.AppliedIndex(), At: time.Now().UTC(), Version: Version,
	})
	if err != nil {
		return err
	}
	snapshot, err := c.store.Snapshot()
	if err != nil {
		return err
	}
	defer snapshot.Release()
	if err := c.store.Sound(snapshot); err != nil {
		return err
	}
	sum := sha256.New()
	out := io.MultiWriter(to, sum)
	head := binary.BigEndian.AppendUint32(bytes.Clone(backupMagic[:]), uint32(len(header)))
	for _, part := range [][]byte{head, header, seal[:]} {
		if _, err := out.Write(part); err != nil {
			return err
		}
	}
	if _, err := snapshot.WriteTo(out); err != nil {
		return err
	}
	_, err = to.Write(sum.Sum(nil))
	return err
}

// backupFile is an open backup, positioned at its state.
type backupFile struct {
	info  BackupInfo
	seal  pki.Seal
	state io.Reader // as long as the state is
	file  *os.File
	sum   hash.Hash
}

// openBackup reads the head of a backup.
func openBackup(path string) (b *backupFile, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	broken := func(why string) error { return fmt.Errorf("%s: %w: %s", path, ErrBackup, why) }
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	b = &backupFile{file: f, sum: sha256.New()}
	in := io.TeeReader(f, b.sum)
	var head [12]byte
	if _, err := io.ReadFull(in, head[:]); err != nil || !bytes.Equal(head[:8], backupMagic[:]) {
		return nil, broken("it does not begin as one")
	}
	size := binary.BigEndian.Uint32(head[8:])
	if size > maxBackupHeader {
		return nil, broken("its header is too long")
	}
	header := make([]byte, size)
	if _, err := io.ReadFull(in, header); err != nil {
		return nil, broken("its header is cut short")
	}
	if err := json.Unmarshal(header, &b.info); err != nil {
		return nil, broken(err.Error())
	}
	if _, err := io.ReadFull(in, b.seal[:]); err != nil {
		return nil, broken("it is cut short")
	}
	rest := info.Size() - int64(len(head)+len(header)+len(b.seal)) - sha256.Size
	if rest <= 0 || b.info.Cluster == "" {
		return nil, broken("it is cut short")
	}
	b.state = io.LimitReader(in, rest)
	return b, nil
}

// verify reads the rest and compares the checksum.
func (b *backupFile) verify() error {
	if _, err := io.Copy(io.Discard, b.state); err != nil {
		return fmt.Errorf("%s: %w", b.file.Name(), err)
	}
	var written [sha256.Size]byte
	if _, err := io.ReadFull(b.file, written[:]); err != nil {
		return fmt.Errorf("%s: %w: it is cut short", b.file.Name(), ErrBackup)
	}
	if !bytes.Equal(written[:], b.sum.Sum(nil)) {
		return fmt.Errorf("%s: %w: the checksum is wrong, so it is damaged or was cut short", b.file.Name(), ErrBackup)
	}
	return nil
}

func (b *backupFile) close() { b.file.Close() }

// VerifyBackup reads a backup from end to end and tells what it is.
func VerifyBackup(file string) (BackupInfo, error) {
	b, err := openBackup(file)
	if err != nil {
		return BackupInfo{}, err
	}
	defer b.close()
	return b.info, b.verify()
}
