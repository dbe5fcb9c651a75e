package systemtest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/agent/page"
	"github.com/crossdock/crossdock/deploy/systemtest/history"
)

// browse logs in to a site's own page, as crossdock-agent page does, and gives what shows a path.
func (s *site) browse() func(path string) (text string, top *html.Node) {
	s.t.Helper()
	token, err := os.ReadFile(filepath.Join(s.cfg.Data, "ops.token"))
	if err != nil {
		s.t.Fatal(err)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	client := &http.Client{Jar: jar}
	do := func(method, address, token string) (string, *html.Node) {
		s.t.Helper()
		r, err := http.NewRequestWithContext(s.t.Context(), method, address, nil)
		if err != nil {
			s.t.Fatal(err)
		}
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		answer, err := client.Do(r)
		if err != nil {
			s.t.Fatal(err)
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil || answer.StatusCode != http.StatusOK {
			s.t.Fatalf("%s %s: %d %s %v", method, address, answer.StatusCode, body, err)
		}
		top, err := html.Parse(strings.NewReader(string(body)))
		if err != nil {
			s.t.Fatal(err)
		}
		return string(body), top
	}
	text, _ := do("POST", "http://"+s.cfg.Ops.Listen+"/v1/page/code", strings.TrimSpace(string(token)))
	var answer struct{ Code string }
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		s.t.Fatal(err)
	}
	do("GET", page.Address(s.cfg.Ops.Listen, answer.Code), "")
	return func(path string) (string, *html.Node) { return do("GET", "http://"+s.cfg.Ops.Listen+path, "") }
}

// section gives the words of the rows below a heading.
func section(top *html.Node, id string) (rows [][]string) {
	for n := range top.Descendants() {
		if n.Type != html.ElementNode || n.Data != "table" || !slices.Contains(n.Attr, html.Attribute{Key: "aria-labelledby", Val: id}) {
			continue
		}
		for tr := range n.Descendants() {
			if tr.Type != html.ElementNode || tr.Data != "tr" || tr.Parent.Data != "tbody" {
				continue
			}
			var row []string
			for cell := range tr.ChildNodes() {
				var b strings.Builder
				for d := range cell.Descendants() {
					if d.Type == html.TextNode {
						b.WriteString(d.Data)
					}
				}
				row = append(row, b.String())
			}
			rows = append(rows, row)
		}
	}
	return rows
}

// TestPageOfASiteThatIsCutOff: the person at the site sees what waits for whom, what went
// wrong and what to do, and what a system answered is text there.
func TestPageOfASiteThatIsCutOff(t *testing.T) {
	const hostile = `<script>alert("x")</script><b onclick=alert(1)>`
	w := newWorld(t, nil, []string{"eu", "hq"}, func(h *history.History) []*system {
		return []*system{newSystem(t, h, "erp", "hq"), newSystem(t, h, "wms", "eu")}
	})
	eu := w.sites["eu"]
	eu.start()
	eu.awaitLink("quic")
	w.systems[1].set(func(attempt) reply { return reply{status: http.StatusUnprocessableEntity, body: hostile} })
	eu.line.Cut()
	w.shops["eu"].sellAll(t, "cut", 3, 5)
	eu.awaitStatus("is cut off, and has dead letters", func(s agent.Status) string {
		dead := 0
		for _, y := range s.Systems {
			dead += y.DeadLetters
		}
		if s.Link.Connected || dead < 3 || s.Queue.Outgoing == 0 {
			return fmt.Sprintf("connected %t, %d dead letters, %d to be sent", s.Link.Connected, dead, s.Queue.Outgoing)
		}
		return ""
	})
	show := eu.browse()
	text, top := show("/")
	if !strings.Contains(text, "cut off since") || !strings.Contains(text, "revision 1.1") || !strings.Contains(text, "of a cut line there is room") {
		t.Errorf("link, policy and disk are not shown: %s", text)
	}
	waits := map[string]bool{}
	for _, row := range section(top, "destinations") {
		waits[row[0]] = row[1] != "0" && strings.HasSuffix(row[2], "ago")
	}
	if !waits["hq"] || !waits["control plane"] || len(waits) != 2 {
		t.Errorf("what waits to be sent: %v", section(top, "destinations"))
	}
	if rows := section(top, "systems"); !slices.ContainsFunc(rows, func(row []string) bool { return row[0] == "wms" && row[5] == "3" }) {
		t.Errorf("systems: %q", rows)
	}
	letters := section(top, "deadletters")
	if len(letters) == 0 || letters[0][0] != "wms" || !strings.Contains(letters[0][4], "422") {
		t.Errorf("dead letters: %q", letters)
	}
	if len(section(top, "log")) == 0 {
		t.Error("no warning of the log is shown")
	}
	for n := range top.Descendants() {
		if n.Type == html.ElementNode && (n.Data == "script" || n.Data == "b") {
			t.Errorf("an element %s comes of what a system answered", n.Data)
		}
	}
	if text, _ := show("/doctor"); !strings.Contains(text, "disk-room") || !strings.Contains(text, "quic") {
		t.Errorf("the doctor does not show what it found: %s", text)
	}
	w.systems[1].set(nil)
	eu.line.Restore()
}
