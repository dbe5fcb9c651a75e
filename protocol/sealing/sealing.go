// Package sealing owns how a secret is sealed to the one agent that may open it, and how an
// agent tells to which key: X25519 recipients of age, announced under the signature of the
// key that the agent registered when it enrolled.
//
// It stands here because whoever sets a secret seals it and an agent opens it; what lies
// between holds it and cannot. It refuses to know where sealed secrets are kept and what they
// are for. Its invariant: what Open gives was sealed for this cluster, agent and name, so a
// secret that is put in the place of another does not open; and it comes with the hosts that
// whoever sealed it allowed, which nobody in between can change.
package sealing

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
)

// Limits of a secret.
const (
	MaxValue    = 64 << 10 // bytes; a certificate chain fits
	maxHeader   = 2 << 10
	maxOverhead = 1 << 10 // of age: its header, and 16 bytes for each 64 KB
	MaxSealed   = MaxValue + maxHeader + maxOverhead
)

// ErrSealed marks what does not open: sealed to another key, damaged, or meant for another place.
var ErrSealed = errors.New("the sealed secret cannot be opened")

// Binding says for what a secret was sealed.
type Binding struct {
	Cluster string `json:"cluster"`
	Agent   string `json:"agent"`
	Name    string `json:"name"`    // owner/name
	Version uint64 `json:"version"` // one higher with each change
}

// Secret is one that was sealed.
type Secret struct {
	Value   []byte
	Version uint64
	Only    []string // the hosts that it may be sent to, as Host writes them; empty: any
}

// header is what stands before the value. What has a restriction is written in another place:
// a version that knows of none finds no name there and refuses it, rather than send it anywhere.
type header struct {
	Binding
	Restricted *restricted `json:"restricted,omitempty"`
}

// restricted is the form of a secret that may not be sent anywhere.
type restricted struct {
	Binding
	Only []string `json:"only"`
}

// Announcement is what an agent says of the key that its secrets are to be sealed to.
type Announcement struct {
	Recipient string `json:"recipient"`      // age1...
	Key       []byte `json:"key"`            // the agent's registered public key, SubjectPublicKeyInfo
	Signature []byte `json:"signature"`      // ECDSA with SHA-256, ASN.1
	Only      bool   `json:"only,omitempty"` // it takes what is sealed for certain hosts only; not signed: one that does not, refuses it
}

// NewKey makes a key, in the text form of age.
func NewKey() (string, error) {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return "", err
	}
	return identity.String(), nil
}

// RecipientOf gives the public part of a key.
func RecipientOf(key string) (string, error) {
	identity, err := age.ParseX25519Identity(strings.TrimSpace(key))
	if err != nil {
		return "", errors.New("not a key of age") // age's own words may repeat it
	}
	return identity.Recipient().String(), nil
}

// Announce signs an announcement.
func Announce(cluster, agent, recipient string, key *ecdsa.PrivateKey) (Announcement, error) {
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return Announcement{}, err
	}
	sum := signed(cluster, agent, recipient)
	signature, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	return Announcement{Recipient: recipient, Key: public, Signature: signature, Only: true}, err
}

// Verify says why an announcement is not that of the agent whose registered key has the
// given SHA-256.
func (a Announcement) Verify(cluster, agent string, registered [32]byte) error {
	if sha256.Sum256(a.Key) != registered {
		return errors.New("it is signed by a key that is not the one that the agent registered; the agent was enrolled anew, and says its new key as soon as it is connected")
	}
	parsed, err := x509.ParsePKIXPublicKey(a.Key)
	if err != nil {
		return fmt.Errorf("its key: %w", err)
	}
	public, ok := parsed.(*ecdsa.PublicKey)
	sum := signed(cluster, agent, a.Recipient)
	if !ok || !ecdsa.VerifyASN1(public, sum[:], a.Signature) {
		return errors.New("its signature is not that of the agent's registered key")
	}
	if _, err := age.ParseX25519Recipient(a.Recipient); err != nil {
		return fmt.Errorf("its recipient: %w", err)
	}
	return nil
}

// signed is what a signature covers: each text behind its length.
func signed(cluster, agent, recipient string) [32]byte {
	return sha256.Sum256(fmt.Appendf(nil, "crossdock sealing key 1\n%d %s\n%d %s\n%d %s\n",
		len(cluster), cluster, len(agent), agent, len(recipient), recipient))
}

// Fingerprint makes of a recipient what two people can compare over a telephone.
func Fingerprint(recipient string) string {
	const groups, digits = 8, 4
	sum := sha256.Sum256([]byte(recipient))
	text := hex.EncodeToString(sum[:groups*digits/2])
	var out []string
	for i := 0; i < len(text); i += digits {
		out = append(out, text[i:i+digits])
	}
	return strings.Join(out, "-")
}

// Seal seals a value to a recipient, for one place, and if hosts are given, to be sent to these
// only.
func Seal(recipient string, to Binding, value []byte, only ...string) ([]byte, error) {
	if len(value) > MaxValue {
		return nil, fmt.Errorf("a secret has at most %d bytes, this one %d", MaxValue, len(value))
	}
	key, err := age.ParseX25519Recipient(recipient)
	if err != nil {
		return nil, err
	}
	var form any = to // as versions write it that know of no restriction
	if len(only) > 0 {
		form = map[string]restricted{"restricted": {to, only}}
	}
	head, err := json.Marshal(form)
	if err != nil {
		return nil, err
	}
	if len(head) >= maxHeader {
		return nil, fmt.Errorf("the names and hosts for which a secret is sealed have more than %d bytes", maxHeader)
	}
	var out bytes.Buffer
	w, err := age.Encrypt(&out, key)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(append(append(head, '\n'), value...)); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// Open opens what was sealed to a key for a cluster, agent and name, and says which change of
// it that is and where it may be sent.
func Open(key string, at Binding, sealed []byte) (Secret, error) {
	identity, err := age.ParseX25519Identity(strings.TrimSpace(key))
	if err != nil {
		return Secret{}, errors.New("the agent's sealing key is damaged")
	}
	if len(sealed) > MaxSealed {
		return Secret{}, fmt.Errorf("%w: it has %d bytes", ErrSealed, len(sealed))
	}
	r, err := age.Decrypt(bytes.NewReader(sealed), identity)
	var other *age.NoIdentityMatchError
	if errors.As(err, &other) {
		return Secret{}, fmt.Errorf("%w: it is sealed to another key than this agent has; set it anew", ErrSealed)
	} else if err != nil {
		return Secret{}, fmt.Errorf("%w: %w", ErrSealed, err)
	}
	text, err := io.ReadAll(io.LimitReader(r, MaxSealed))
	if err != nil {
		return Secret{}, fmt.Errorf("%w: %w", ErrSealed, err)
	}
	head, value, found := bytes.Cut(text, []byte("\n"))
	of, only, err := parseHeader(head)
	if !found || err != nil {
		return Secret{}, fmt.Errorf("%w: it holds no secret that this version knows; upgrade the agent, or set it anew", ErrSealed)
	}
	at.Version = of.Version
	if of != at {
		return Secret{}, fmt.Errorf("%w: it was sealed as %s for agent %s of another place than %s; set it anew", ErrSealed, of.Name, of.Agent, at.Name)
	}
	return Secret{value, of.Version, only}, nil
}

// parseHeader takes nothing that it does not know: it may be a restriction.
func parseHeader(text []byte) (of Binding, only []string, err error) {
	var h header
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&h); err != nil {
		return Binding{}, nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Binding{}, nil, errors.New("something follows")
	}
	if h.Restricted == nil {
		return h.Binding, nil, nil
	}
	if h.Binding != (Binding{}) || len(h.Restricted.Only) == 0 {
		return Binding{}, nil, errors.New("a restriction without hosts")
	}
	return h.Restricted.Binding, h.Restricted.Only, nil
}
