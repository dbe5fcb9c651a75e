// Package page owns the look of the agent's own page, for a person at the site's server while
// the control plane may be out of reach: who may see it, and how it is shown.
//
// It refuses to know how anything comes about that it shows; all of it is handed to it in
// words. Its invariant: whatever a word holds, it is shown as text, and nothing is shown to
// who has not proven that they may read the agent's data directory.
package page

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"time"
)

// Limits with a name.
const (
	refresh      = 30 * time.Second // of the page, by itself
	maxRows      = 200              // of a table
	maxText      = 600              // characters of one cell
	maxForm      = 4 << 10
	sessionLasts = 12 * time.Hour
	maxSessions  = 64
	codeLasts    = 2 * time.Minute
	maxCodes     = 16
)

// Level colours a row, and is said beside it in words.
type Level string

// The levels.
const (
	None Level = ""
	OK   Level = "ok"
	Warn Level = "warn"
	Fail Level = "fail"
)

// View is all that the page shows.
type View struct {
	Agent string
	Site  string
	Facts []Fact
	Table []Table
}

// Fact is one line of the summary.
type Fact struct {
	Name  string
	Text  string
	Level Level
}

// Table is one part of the page.
type Table struct {
	ID    string // of the heading; letters
	Title string
	Empty string // what is said where there are no rows
	Head  []string
	Rows  []Row
	More  int // rows that are left out
}

// Row is one thing; its first cell names it.
type Row struct {
	Level Level
	Cells []string
}

// Finding is the outcome of one check of an examination.
type Finding struct {
	ID    string
	Level Level
	Seen  string
	Todo  string
}

// Source gives what is shown.
type Source interface {
	// View is asked each time that the page is shown. What it cannot tell it says in words.
	View(ctx context.Context) View
	// Examine looks at everything the agent leans on, and says when it did.
	Examine(ctx context.Context) (found []Finding, at time.Time, err error)
}

// Config is what a page works with. Source and Token are required.
type Config struct {
	Source Source
	Token  func(given string) bool // whether this is the token of the data directory
	Hint   string                  // where the token is
	Logger *slog.Logger
	Now    func() time.Time
}

// Page answers for the page; it is an http.Handler.
type Page struct {
	cfg   Config
	mux   *http.ServeMux
	guard guard
}

var _ http.Handler = (*Page)(nil)

//go:embed page.html
var layout string

//go:embed style.css
var style []byte

var templates = template.Must(template.New("page").Funcs(template.FuncMap{"cut": cut, "label": label}).Parse(layout))

// New makes the page.
func New(cfg Config) (*Page, error) {
	if cfg.Source == nil || cfg.Token == nil {
		return nil, errors.New("page: Source and Token must be set")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	p := &Page{cfg: cfg, mux: http.NewServeMux(), guard: guard{now: cfg.Now, sessions: map[[32]byte]time.Time{}, codes: map[[32]byte]time.Time{}}}
	p.mux.HandleFunc("GET /{$}", p.known(p.status))
	p.mux.HandleFunc("GET /doctor", p.known(p.doctor))
	p.mux.HandleFunc("GET /login", p.form)
	p.mux.HandleFunc("POST /login", p.login)
	p.mux.HandleFunc("POST /logout", p.known(p.logout))
	p.mux.HandleFunc("GET /style.css", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/css; charset=utf-8")
		_, _ = w.Write(style) // the client is gone if this fails
	})
	return p, nil
}

// ServeHTTP answers. A page of a browser may do nothing but show itself.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	p.mux.ServeHTTP(w, r)
}

// shown is what the template gets.
type shown struct {
	Name    string // of the part of the template
	Title   string
	Refresh int // seconds; 0: not by itself
	At      time.Time
	View    View
	Found   []Finding
	Worst   Level
	Fault   string
	Hint    string
}

func (p *Page) status(w http.ResponseWriter, r *http.Request) {
	v := p.cfg.Source.View(r.Context())
	for i := range v.Table {
		if t := &v.Table[i]; len(t.Rows) > maxRows {
			t.More, t.Rows = t.More+len(t.Rows)-maxRows, t.Rows[:maxRows]
		}
	}
	s := shown{Name: "status", Title: v.Agent, View: v, Refresh: int(refresh / time.Second)}
	if r.URL.Query().Get("refresh") == "off" {
		s.Refresh = 0
	}
	p.show(w, http.StatusOK, s)
}

func (p *Page) doctor(w http.ResponseWriter, r *http.Request) {
	found, at, err := p.cfg.Source.Examine(r.Context())
	if err != nil {
		return // the client is gone
	}
	worst := OK
	for _, f := range found {
		if f.Level == Fail || f.Level == Warn && worst == OK {
			worst = f.Level
		}
	}
	p.show(w, http.StatusOK, shown{Name: "doctor", Title: "Doctor", Found: found, Worst: worst, At: at})
}

// show writes a page, or none of it.
func (p *Page) show(w http.ResponseWriter, status int, s shown) {
	if s.At.IsZero() {
		s.At = p.cfg.Now()
	}
	var b bytes.Buffer
	if err := templates.Execute(&b, s); err != nil {
		p.cfg.Logger.Error("the page cannot be shown", "page", s.Name, "err", err)
		http.Error(w, "the page cannot be shown; see the agent's log", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = b.WriteTo(w) // the client is gone if this fails
}

// cut bounds a text that somebody else has made.
func cut(text string) string {
	n := 0
	for i := range text {
		if n++; n > maxText {
			return text[:i] + "…"
		}
	}
	return text
}

// label is the heading of a cell, for where a row is shown as a list.
func label(head []string, i int) string {
	if i < len(head) {
		return head[i]
	}
	return ""
}
