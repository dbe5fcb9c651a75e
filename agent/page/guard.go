package page

import (
	"crypto/rand"
	"crypto/sha256"
	"maps"
	"net/http"
	"net/url"
	"sync"
	"time"
)

const cookieName = "crossdock-agent"

// guard knows who may see the page. Only digests are kept; all end with the process.
type guard struct {
	now func() time.Time

	mu       sync.Mutex             // guards what follows
	sessions map[[32]byte]time.Time // until when
	codes    map[[32]byte]time.Time // until when, each for one login
}

// issue gives a new secret, and lets the oldest of too many go.
func (g *guard) issue(into map[[32]byte]time.Time, most int, lasts time.Duration) string {
	secret := rand.Text()
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	maps.DeleteFunc(into, func(_ [32]byte, until time.Time) bool { return !now.Before(until) })
	for len(into) >= most {
		var oldest [32]byte
		for digest, until := range into {
			if held, ok := into[oldest]; !ok || until.Before(held) {
				oldest = digest
			}
		}
		delete(into, oldest)
	}
	into[sha256.Sum256([]byte(secret))] = now.Add(lasts)
	return secret
}

func (g *guard) holds(of map[[32]byte]time.Time, secret string, once bool) bool {
	digest := sha256.Sum256([]byte(secret))
	g.mu.Lock()
	defer g.mu.Unlock()
	until, ok := of[digest]
	if once || ok && !g.now().Before(until) {
		delete(of, digest)
	}
	return ok && g.now().Before(until)
}

// Code makes a code for one login within a short time, for who has shown the token.
func (p *Page) Code() string { return p.guard.issue(p.guard.codes, maxCodes, codeLasts) }

// known lets only who has logged in through; others are sent to the form.
func (p *Page) known(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		cookie, err := r.Cookie(cookieName)
		if err != nil || !p.guard.holds(p.guard.sessions, cookie.Value, false) {
			http.Redirect(w, r, "/login", http.StatusSeeOther)
			return
		}
		next(w, r)
	}
}

// form asks for the token, or takes the code that is in the address.
func (p *Page) form(w http.ResponseWriter, r *http.Request) {
	code := r.URL.Query().Get("code")
	switch {
	case code == "":
		p.show(w, http.StatusOK, shown{Name: "login", Title: "Log in", Hint: p.cfg.Hint})
	case p.guard.holds(p.guard.codes, code, true):
		p.admit(w, r)
	default:
		p.refuse(w, "This code was used already or is too old. Run crossdock-agent page again, or enter the token.")
	}
}

func (p *Page) login(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil || !p.cfg.Token(r.PostForm.Get("token")) {
		p.refuse(w, "This is not the token.")
		return
	}
	p.admit(w, r)
}

func (p *Page) refuse(w http.ResponseWriter, why string) {
	p.cfg.Logger.Warn("a login to the agent's page was refused", "why", why)
	p.show(w, http.StatusUnauthorized, shown{Name: "login", Title: "Log in", Fault: why, Hint: p.cfg.Hint})
}

func (p *Page) admit(w http.ResponseWriter, r *http.Request) {
	http.SetCookie(w, &http.Cookie{Name: cookieName, Value: p.guard.issue(p.guard.sessions, maxSessions, sessionLasts), Path: "/",
		MaxAge: int(sessionLasts / time.Second), HttpOnly: true, SameSite: http.SameSiteStrictMode})
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (p *Page) logout(w http.ResponseWriter, r *http.Request) {
	if cookie, err := r.Cookie(cookieName); err == nil {
		p.guard.holds(p.guard.sessions, cookie.Value, true)
	}
	http.SetCookie(w, &http.Cookie{Name: cookieName, Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteStrictMode})
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}

// Address is where a code logs in at an agent whose door is at host:port.
func Address(hostport, code string) string {
	return (&url.URL{Scheme: "http", Host: hostport, Path: "/login", RawQuery: url.Values{"code": {code}}.Encode()}).String()
}
