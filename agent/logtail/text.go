package logtail

import (
	"log/slog"
	"strconv"
	"strings"
	"time"
)

// ParseText reads a line of slog's text form: key=value, quoted where it has to be.
func ParseText(text string) Line {
	l := Line{Raw: []byte(text), Text: text}
	attrs, rest := map[string]any{}, text
	for rest != "" {
		key, after, ok := strings.Cut(rest, "=")
		if !ok || key == "" || strings.ContainsAny(key, " ") {
			return l
		}
		var value string
		if strings.HasPrefix(after, `"`) {
			quoted, err := strconv.QuotedPrefix(after)
			if err != nil {
				return l
			}
			rest = strings.TrimPrefix(after[len(quoted):], " ")
			if value, err = strconv.Unquote(quoted); err != nil {
				return l
			}
		} else {
			value, rest, _ = strings.Cut(after, " ")
		}
		attrs[key] = value
	}
	at, _ := attrs[slog.TimeKey].(string)
	level, _ := attrs[slog.LevelKey].(string)
	said, ok := attrs[slog.MessageKey].(string)
	t, err := time.Parse(time.RFC3339Nano, at)
	if err != nil || !ok || l.Level.UnmarshalText([]byte(level)) != nil {
		l.Level = 0
		return l
	}
	for _, key := range []string{slog.TimeKey, slog.LevelKey, slog.MessageKey} {
		delete(attrs, key)
	}
	l.Time, l.Text, l.Attrs, l.Known = t, said, attrs, true
	return l
}
