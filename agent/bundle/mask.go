package bundle

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

const (
	masked    = "[masked]"
	minSecret = 4 // bytes: a shorter one would be found everywhere, and says little
)

// secrets are values that no bundle may hold, in the forms in which they may come.
type secrets struct{ values [][]byte }

func (s *secrets) add(value []byte) {
	value = bytes.TrimSpace(value)
	if len(value) < minSecret {
		return
	}
	forms := [][]byte{value, []byte(base64.StdEncoding.EncodeToString(value)), []byte(base64.RawURLEncoding.EncodeToString(value)),
		[]byte(hex.EncodeToString(value)), []byte(url.QueryEscape(string(value))), []byte(url.PathEscape(string(value)))}
	if quoted, err := json.Marshal(string(value)); err == nil {
		forms = append(forms, quoted[1:len(quoted)-1])
	}
	for line := range bytes.Lines(value) { // of a key in PEM form each
		if line = bytes.TrimSpace(line); len(line) >= 16 {
			forms = append(forms, line)
		}
	}
	for _, form := range forms {
		if !slices.ContainsFunc(s.values, func(v []byte) bool { return bytes.Equal(v, form) }) {
			s.values = append(s.values, form)
		}
	}
	// The longest first: one may hold another.
	slices.SortStableFunc(s.values, func(a, b []byte) int { return len(b) - len(a) })
}

// All begin with what is found quickly: a log is long.
var (
	userInfo = regexp.MustCompile(`://[^\s/@"']+@`)
	keyText  = regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----`)

	authorization = []*regexp.Regexp{scheme("Bearer"), scheme("bearer"), scheme("BEARER"), scheme("Basic"), scheme("basic"), scheme("BASIC")}
)

func scheme(name string) *regexp.Regexp {
	return regexp.MustCompile("(" + name + ") [A-Za-z0-9._~+/=-]{6,}")
}

// mask takes out what was said to be secret, and what looks like it by its form.
func (s *secrets) mask(text []byte) []byte {
	text = keyText.ReplaceAll(text, []byte(masked))
	text = userInfo.ReplaceAll(text, []byte("://"+masked+"@"))
	for _, form := range authorization {
		text = form.ReplaceAll(text, []byte("${1} "+masked))
	}
	for _, value := range s.values {
		text = bytes.ReplaceAll(text, value, []byte(masked))
	}
	return text
}

// shownKeys are those whose values in a configuration say nothing about anybody, by their whole
// names: all others are masked, new ones too until they stand here.
var shownKeys = []string{
	"data", "secrets", "controlplane.addresses", "controlplane.transport", "intake.listen", "intake.certificate", "intake.key", "ops.listen", "plugins.dir",
	"journal.quota", "journal.segment", "journal.retain", "calls.deadline", "calls.retain", "calls.quota", "documents.quota", "documents.retain",
	"disk.stop", "disk.pullStop", "disk.resume", "disk.reserve", "disk.telemetry", "disk.watch",
	"upgrades.enabled", "upgrades.gate", "upgrades.attempts", "upgrades.keys", "tracing.sample",
	"log.level", "log.format", "log.file", "log.maxSize", "log.keep", "doctor.ntp",
}

// Configuration shows the structure of a YAML file: the keys, and the values of those that
// are known to hold no secret. Comments are left out. What cannot be parsed is shown by the
// keys that begin its lines.
func Configuration(text []byte) []byte {
	var document any
	if err := yaml.Unmarshal(text, &document); err != nil {
		return keysOf(text)
	}
	shown, err := yaml.Marshal(redact("", document))
	if err != nil {
		return keysOf(text)
	}
	return shown
}

func redact(key string, value any) any {
	switch v := value.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for name, inner := range v {
			out[name] = redact(strings.TrimPrefix(key+"."+name, "."), inner)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, inner := range v {
			out[i] = redact(key, inner)
		}
		return out
	case nil:
		return nil
	}
	if slices.Contains(shownKeys, key) || value == "" {
		return value
	}
	if text, ok := value.(string); ok { // of a URL its place is worth to know, and of a reference where it leads
		if u, err := url.Parse(text); err == nil && u.Scheme != "" && u.Host != "" {
			return u.Scheme + "://" + u.Host
		}
		for _, kind := range []string{"file:", "env:", "cred:", "secret:"} {
			if strings.HasPrefix(text, kind) {
				return text
			}
		}
	}
	return masked
}

var yamlKey = regexp.MustCompile(`^(\s*(?:- )?[A-Za-z][A-Za-z0-9_-]*:)`)

func keysOf(text []byte) []byte {
	var out bytes.Buffer
	out.WriteString("# this file cannot be parsed: only its keys are shown\n")
	for line := range bytes.Lines(text) {
		if key := yamlKey.Find(line); key != nil {
			out.Write(append(key, " "+masked+"\n"...))
		}
	}
	return out.Bytes()
}
