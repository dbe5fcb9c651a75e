package page

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/html"
)

const token = "the-token-of-the-data-directory"

// hostile is what a name or an error may hold.
const hostile = `"><script>alert(1)</script><img src=x onerror=alert(2)>'{{.}}` + "\x00\u202e javascript:alert(3)"

type source struct {
	view     View
	examined atomic.Int32
	found    []Finding
	at       time.Time
}

func (s *source) View(context.Context) View { return s.view }
func (s *source) Examine(context.Context) ([]Finding, time.Time, error) {
	s.examined.Add(1)
	return s.found, s.at, nil
}

type site struct {
	*Page
	t      *testing.T
	source *source
	http   *httptest.Server
	client *http.Client
	now    time.Time
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, source: &source{view: View{Agent: "eu", Site: "eu"}}, now: time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC)}
	var err error
	s.Page, err = New(Config{Source: s.source, Token: func(given string) bool { return given == token }, Hint: "/data/ops.token", Now: func() time.Time { return s.now }})
	if err != nil {
		t.Fatal(err)
	}
	s.http = httptest.NewServer(http.NewCrossOriginProtection().Handler(s.Page))
	t.Cleanup(s.http.Close)
	s.client = s.browser()
	return s
}

// browser is a new one, that goes where it is sent and keeps cookies.
func (s *site) browser() *http.Client {
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return &http.Client{Jar: jar}
}

func (s *site) do(method, path string, form url.Values, header ...string) (*http.Response, string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.http.URL+path, strings.NewReader(form.Encode()))
	if err != nil {
		s.t.Fatal(err)
	}
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer, err := s.client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer, string(text)
}

func (s *site) login() {
	s.t.Helper()
	if answer, _ := s.do("POST", "/login", url.Values{"token": {token}}); answer.StatusCode != 200 || answer.Request.URL.Path != "/" {
		s.t.Fatalf("logged in, and is at %s with %d", answer.Request.URL, answer.StatusCode)
	}
}

// where says which page is shown after all redirects.
func (s *site) where(path string) string {
	s.t.Helper()
	answer, _ := s.do("GET", path, nil)
	return answer.Request.URL.Path
}

func TestNothingIsShownWithoutALogin(t *testing.T) {
	s := newSite(t)
	s.source.view.Facts = []Fact{{Name: "Data", Text: "canary"}}
	s.source.found = []Finding{{ID: "canary", Seen: "canary"}}
	for _, path := range []string{"/", "/doctor", "/?refresh=off"} {
		if answer, text := s.do("GET", path, nil); answer.Request.URL.Path != "/login" || strings.Contains(text, "canary") {
			t.Errorf("%s shows %s: %s", path, answer.Request.URL, text)
		}
	}
	for _, wrong := range []string{"", "wrong", token + "x", token[1:]} {
		if answer, text := s.do("POST", "/login", url.Values{"token": {wrong}}); answer.StatusCode != 401 || !strings.Contains(text, `role="alert"`) || strings.Contains(text, token) {
			t.Errorf("with %q: %d %s", wrong, answer.StatusCode, text)
		}
	}
	if answer, _ := s.do("POST", "/login?token="+token, url.Values{}); answer.StatusCode != 401 {
		t.Errorf("a token in an address logs in: %d", answer.StatusCode) // it would stand in the browser's history
	}
	if answer, _ := s.do("GET", "/", nil, "Cookie", cookieName+"=made-up"); answer.Request.URL.Path != "/login" {
		t.Error("a cookie that was made up is taken")
	}
	if s.source.examined.Load() != 0 {
		t.Error("it was examined for nobody")
	}
	s.login()
	if _, text := s.do("GET", "/", nil); !strings.Contains(text, "canary") {
		t.Error("nothing is shown after the login")
	}
}

func TestSession(t *testing.T) {
	s := newSite(t)
	s.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	answer, _ := s.do("POST", "/login", url.Values{"token": {token}})
	cookies := answer.Cookies()
	if len(cookies) != 1 || !cookies[0].HttpOnly || cookies[0].SameSite != http.SameSiteStrictMode || cookies[0].Path != "/" || strings.Contains(cookies[0].Value, token) {
		t.Fatalf("%v", cookies)
	}
	s.client.CheckRedirect = nil
	if at := s.where("/"); at != "/" {
		t.Errorf("logged in, and is at %s", at)
	}
	s.now = s.now.Add(sessionLasts)
	if at := s.where("/"); at != "/login" {
		t.Errorf("after its time a session shows %s", at)
	}
	s.login()
	kept := s.client.Jar.Cookies(mustParse(t, s.http.URL))
	if answer, _ := s.do("POST", "/logout", url.Values{}); answer.Request.URL.Path != "/login" {
		t.Errorf("logged out, and is at %s", answer.Request.URL.Path)
	}
	if answer, _ := s.do("GET", "/", nil, "Cookie", kept[0].String()); answer.Request.URL.Path != "/login" {
		t.Error("a session goes on after the logout")
	}
}

func mustParse(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestCodeLogsInOnce(t *testing.T) {
	s := newSite(t)
	u := mustParse(t, Address("127.0.0.1:7090", s.Code()))
	if u.Host != "127.0.0.1:7090" || u.Path != "/login" {
		t.Fatalf("%s", u)
	}
	if at := s.where(u.RequestURI()); at != "/" {
		t.Errorf("with its code it shows %s", at)
	}
	s.client = s.browser()
	if answer, text := s.do("GET", u.RequestURI(), nil); answer.StatusCode != 401 || !strings.Contains(text, "used already") {
		t.Errorf("the same again: %d %s", answer.StatusCode, text)
	}
	late := Address("h:1", s.Code())
	s.now = s.now.Add(codeLasts)
	if answer, _ := s.do("GET", mustParse(t, late).RequestURI(), nil); answer.StatusCode != 401 {
		t.Errorf("a code that is too old: %d", answer.StatusCode)
	}
	first := mustParse(t, Address("h:1", s.Code())).RequestURI()
	for range maxCodes {
		s.now = s.now.Add(time.Millisecond)
		s.Code()
	}
	if answer, _ := s.do("GET", first, nil); answer.StatusCode != 401 {
		t.Errorf("the oldest of too many codes: %d", answer.StatusCode)
	}
}

func TestAnotherSiteCannotLogOutOrIn(t *testing.T) {
	s := newSite(t)
	s.login()
	for _, path := range []string{"/logout", "/login"} {
		if answer, _ := s.do("POST", path, url.Values{"token": {token}}, "Sec-Fetch-Site", "cross-site"); answer.StatusCode != 403 {
			t.Errorf("%s: %d", path, answer.StatusCode)
		}
		if answer, _ := s.do("POST", path, url.Values{"token": {token}}, "Origin", "http://evil.example"); answer.StatusCode != 403 {
			t.Errorf("%s: %d", path, answer.StatusCode)
		}
	}
	if answer, _ := s.do("GET", "/logout", nil); answer.StatusCode != 405 {
		t.Errorf("a link logs out: %d", answer.StatusCode)
	}
	if at := s.where("/"); at != "/" {
		t.Errorf("it is at %s", at)
	}
}

func TestHeaders(t *testing.T) {
	s := newSite(t)
	s.login()
	for _, path := range []string{"/", "/doctor", "/login", "/style.css", "/none"} {
		answer, _ := s.do("GET", path, nil)
		csp := answer.Header.Get("Content-Security-Policy")
		for _, part := range []string{"default-src 'none'", "style-src 'self'", "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'"} {
			if !strings.Contains(csp, part) {
				t.Errorf("%s: %q is not in %q", path, part, csp)
			}
		}
		if answer.Header.Get("X-Content-Type-Options") != "nosniff" || answer.Header.Get("Cache-Control") != "no-store" || answer.Header.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: %v", path, answer.Header)
		}
	}
}

// full is a view with hostile words in every place.
func full() View {
	v := View{Agent: "eu" + hostile, Site: hostile}
	for _, l := range []Level{None, OK, Warn, Fail} {
		v.Facts = append(v.Facts, Fact{Name: "Fact " + string(l), Text: hostile, Level: l})
	}
	v.Table = []Table{
		{ID: "a", Title: "Title " + hostile, Head: []string{"Name", "State"}, Rows: []Row{{Warn, []string{hostile, hostile}}, {Fail, []string{"x", hostile, "beyond the head"}}}, More: 2},
		{ID: "b", Title: "Empty", Empty: "There is none " + hostile, Head: []string{"Name"}},
	}
	return v
}

func parse(t *testing.T, text string) *html.Node {
	t.Helper()
	top, err := html.Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return top
}

func attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func all(top *html.Node, tag string) (out []*html.Node) {
	for n := range top.Descendants() {
		if n.Type == html.ElementNode && n.Data == tag {
			out = append(out, n)
		}
	}
	return out
}

func text(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data)
		}
	}
	return b.String()
}

// Whatever a word holds, it is text: no element, no attribute and no address comes of it.
func TestHostileWordsStayText(t *testing.T) {
	s := newSite(t)
	s.login()
	s.source.view = full()
	s.source.found = []Finding{{ID: hostile, Level: Fail, Seen: hostile, Todo: hostile}}
	for _, path := range []string{"/", "/doctor"} {
		_, body := s.do("GET", path, nil)
		top := parse(t, body)
		if !strings.Contains(text(top), "<script>alert(1)</script>") {
			t.Errorf("%s does not show the word as it is", path)
		}
		for n := range top.Descendants() {
			if n.Type != html.ElementNode {
				continue
			}
			if slices.Contains([]string{"script", "img", "iframe", "object", "svg", "style", "base"}, n.Data) {
				t.Errorf("%s has an element %s", path, n.Data)
			}
			for _, a := range n.Attr {
				if strings.HasPrefix(a.Key, "on") || a.Key == "style" || strings.Contains(strings.ToLower(a.Val), "javascript:") || strings.Contains(a.Val, "alert") {
					t.Errorf("%s: <%s %s=%q>", path, n.Data, a.Key, a.Val)
				}
				if (a.Key == "href" || a.Key == "action" || a.Key == "src") && !strings.HasPrefix(a.Val, "/") && !strings.HasPrefix(a.Val, "#") {
					t.Errorf("%s leads to %q", path, a.Val)
				}
			}
		}
	}
}

// What a person with a screen reader, a keyboard or a narrow screen goes by is there.
func TestStructure(t *testing.T) {
	s := newSite(t)
	_, login := s.do("GET", "/login", nil)
	s.login()
	s.source.view = full()
	s.source.found = []Finding{{ID: "disk", Level: Warn, Seen: "little", Todo: "more"}}
	_, status := s.do("GET", "/", nil)
	_, doctor := s.do("GET", "/doctor", nil)
	for name, body := range map[string]string{"login": login, "status": status, "doctor": doctor} {
		top := parse(t, body)
		for _, tag := range []string{"header", "main", "footer", "h1", "title"} {
			if n := len(all(top, tag)); n != 1 {
				t.Errorf("%s has %d of %s", name, n, tag)
			}
		}
		if attr(all(top, "html")[0], "lang") != "en" {
			t.Errorf("%s does not say its language", name)
		}
		if (len(all(top, "nav")) == 1) == (name == "login") {
			t.Errorf("%s has %d navs", name, len(all(top, "nav")))
		}
		ids := map[string]bool{}
		for n := range top.Descendants() {
			if id := attr(n, "id"); id != "" {
				if ids[id] {
					t.Errorf("%s: id %q twice", name, id)
				}
				ids[id] = true
			}
		}
		for n := range top.Descendants() {
			for _, a := range []string{"aria-labelledby", "for"} {
				if to := attr(n, a); to != "" && !ids[to] {
					t.Errorf("%s: %s of %s names %q, which is not there", name, a, n.Data, to)
				}
			}
		}
		for _, in := range all(top, "input") {
			if !strings.Contains(body, `for="`+attr(in, "id")+`"`) {
				t.Errorf("%s: an input without a label", name)
			}
		}
		for _, table := range all(top, "table") {
			for _, th := range all(table, "th") {
				if scope := attr(th, "scope"); scope != "col" && scope != "row" {
					t.Errorf("%s: a heading of scope %q", name, scope)
				}
			}
			for _, row := range all(all(table, "tbody")[0], "tr") {
				if len(all(row, "th")) != 1 {
					t.Errorf("%s: a row with %d headings", name, len(all(row, "th")))
				}
			}
		}
	}
	if !strings.Contains(status, "2 more are not shown") || !strings.Contains(status, "There is none") {
		t.Error("what is left out or not there is not said")
	}
}

func TestRefreshCanBeStopped(t *testing.T) {
	s := newSite(t)
	s.login()
	refreshes := func(path string) bool {
		_, body := s.do("GET", path, nil)
		return slices.ContainsFunc(all(parse(t, body), "meta"), func(n *html.Node) bool { return attr(n, "http-equiv") == "refresh" })
	}
	for path, want := range map[string]bool{"/": true, "/?refresh=off": false, "/doctor": false, "/login": false} {
		if got := refreshes(path); got != want {
			t.Errorf("%s: %t", path, got)
		}
	}
}

func TestLimits(t *testing.T) {
	s := newSite(t)
	s.login()
	table := Table{ID: "a", Title: "A", Head: []string{"N"}}
	for i := range maxRows + 7 {
		table.Rows = append(table.Rows, Row{Cells: []string{fmt.Sprint(i, strings.Repeat("ä", 5000))}})
	}
	s.source.view.Table = []Table{table}
	_, body := s.do("GET", "/", nil)
	if n := len(all(all(parse(t, body), "tbody")[0], "tr")); n != maxRows || !strings.Contains(body, "7 more are not shown") {
		t.Errorf("%d rows", n)
	}
	table.Rows = table.Rows[:maxRows+1]
	s.source.view.Table = []Table{table}
	if _, body := s.do("GET", "/", nil); !strings.Contains(body, "1 more is not shown") {
		t.Error("one that is left out is not said to be one")
	}
	if len(body) > maxRows*(2*maxText+200)+10_000 {
		t.Errorf("the page has %d bytes", len(body))
	}
}
