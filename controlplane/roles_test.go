package controlplane

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"aead.dev/minisign"
	"github.com/getkin/kin-openapi/openapi3"

	"github.com/crossdock/crossdock/controlplane/api"
	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/release"
)

var everyRole = []model.Role{model.Viewer, model.Operator, model.Author, model.Approver, model.Admin}

// caller asks a node over its API, as somebody with one role.
type caller struct {
	t      *testing.T
	client *http.Client
	node   *running
	tokens map[model.Role]string
}

// newCaller has a principal of each role, where nobody approves what is their own.
func newCaller(t *testing.T) *caller {
	t.Helper()
	config := nodeConfig(t, "node-1")
	config.Approvals = model.ApprovalsDual
	c := &caller{t: t, node: run(t, config), tokens: map[model.Role]string{}}
	ca, err := os.ReadFile(FilesIn(config.Data).Authority)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	c.client = &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	t.Cleanup(c.client.CloseIdleConnections)
	token, err := os.ReadFile(FilesIn(config.Data).AdminToken)
	if err != nil {
		t.Fatal(err)
	}
	const first = "first" // administrator; it has another role too
	c.tokens[first] = strings.TrimSpace(string(token))
	for _, role := range everyRole {
		var made struct{ Token string }
		c.must(first, "POST", "/principals", fmt.Sprintf(`{"name":"only-%s","roles":[%q]}`, role, role), &made)
		c.tokens[role] = made.Token
	}
	c.must(first, "POST", "/principals", `{"name":"spare","roles":["viewer"]}`, &struct{}{})
	return c
}

// ask gives the status of an answer, and what it is.
func (c *caller) ask(role model.Role, method, path, body string) (status int, answer []byte) {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), method, c.node.Addresses().API+api.BasePath+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+c.tokens[role])
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	got, err := c.client.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer got.Body.Close()
	answer, err = io.ReadAll(got.Body)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	return got.StatusCode, answer
}

func (c *caller) must(role model.Role, method, path, body string, out any) {
	c.t.Helper()
	status, answer := c.ask(role, method, path, body)
	if status >= 300 {
		c.t.Fatalf("%s %s as %s: %d %s", method, path, role, status, answer)
	}
	if err := json.Unmarshal(answer, out); err != nil {
		c.t.Fatal(err)
	}
}

// propose has the author propose a revision with so many sites.
func (c *caller) propose(sites int) (body, digest string) {
	c.t.Helper()
	var text strings.Builder
	for i := range sites {
		fmt.Fprintf(&text, "---\napiVersion: crossdock/v1\nkind: Site\nmetadata: {name: site-%d}\nspec: {owner: it, region: eu}\n", i)
	}
	documents, err := json.Marshal(map[string]string{"sites.yaml": text.String()})
	if err != nil {
		c.t.Fatal(err)
	}
	body = fmt.Sprintf(`{"bundle":%s,"note":"n"}`, documents)
	var revision struct{ Digest string }
	c.must(model.Author, "POST", "/revisions", body, &revision)
	return body, revision.Digest
}

// releaseBody is of a release with one file, whose SHA-256 is hash.
func releaseBody(t *testing.T, version, hash string) string {
	t.Helper()
	_, private, err := minisign.GenerateKey(rand.NewChaCha8([32]byte{}))
	if err != nil {
		t.Fatal(err)
	}
	manifest, signature, err := release.Sign(&release.Manifest{Format: 1, Version: version, Files: []release.File{
		{Name: release.Agent, OS: "linux", Arch: "amd64", Size: 9, SHA256: hash}}}, private)
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(api.ReleaseAddition{Manifest: string(manifest), Signature: string(signature)})
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// call is one request for an operation, and who may make it by the document.
type call struct {
	name, method, path, body string
	may                      []model.Role
}

// calls makes a request for every operation of the document. What it is about is there, for
// some calls look for it before they look at who asks.
func (c *caller) calls() (out []call) {
	c.t.Helper()
	const file = "123456789"
	hash := fmt.Sprintf("%x", sha256.Sum256([]byte(file)))
	_, digest := c.propose(1)
	var row struct{ Digest string }
	c.must(model.Approver, "POST", "/revisions/1/approve", fmt.Sprintf(`{"digest":%q}`, digest), &row)
	_, digest = c.propose(2)
	c.must(model.Approver, "POST", "/revisions/2/approve", fmt.Sprintf(`{"digest":%q,"canary":["site-0"]}`, digest), &row)
	proposal, digest := c.propose(3)
	added := releaseBody(c.t, "1.4.0", hash)
	c.must(model.Author, "POST", "/releases", added, &row)
	values := strings.NewReplacer("{node}", "node-9", "{authority}", hash, "{name}", "spare", "{version}", "1.4.0", "{sha256}", hash,
		"{agent}", "site-0", "{owner}", "erp", "{id}", "x")
	numbers := map[string]string{"ApproveRevision": "3", "PromoteRevision": "2", "WithdrawRevision": "2"} // others are about the one in force
	bodies := map[string]string{
		"TransferLeadership": `{}`, "CreatePrincipal": `{"name":"other","roles":["viewer"]}`, "CreateToken": `{"site":"site-0"}`,
		"ProposeRevision": proposal, "ApproveRevision": fmt.Sprintf(`{"digest":%q}`, digest), "WithdrawRevision": `{}`, "RollbackRevision": `{}`,
		"LintBundle": strings.Replace(proposal, `,"note":"n"`, "", 1), "ReleaseRange": `{"next":1}`, "AddRelease": added,
		"PutReleasePiece": fmt.Sprintf(`{"offset":0,"data":%q}`, base64.StdEncoding.EncodeToString([]byte(file))),
		"ApproveRelease":  fmt.Sprintf(`{"digest":%q}`, row.Digest), "PromoteRelease": `{}`, "PauseRelease": `{}`, "ResumeRelease": `{}`, "WithdrawRelease": `{}`,
		"SetSecret": fmt.Sprintf(`{"agent":"site-0","owner":"erp","name":"spare","version":1,"recipient":"r","sealed":%q}`,
			base64.StdEncoding.EncodeToString([]byte("age-encryption.org/v1\n"))),
		"ReplayDeadLetter": `{}`, "DiscardDeadLetter": `{"reason":"r"}`, "ResolveException": `{"reason":"r"}`,
	}
	doc, err := api.GetSpec()
	if err != nil {
		c.t.Fatal(err)
	}
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			number := numbers[op.OperationID]
			if number == "" {
				number = "1"
			}
			target := values.Replace(strings.ReplaceAll(path, "{number}", number)) + map[string]string{"ListSecretTargets": "?owner=erp", "TraceEvents": "?key=k"}[op.OperationID]
			body, has := bodies[op.OperationID]
			if has != (op.RequestBody != nil) {
				c.t.Errorf("%s: this test has a body %v, the document %v", op.OperationID, has, op.RequestBody != nil)
			}
			one := call{op.OperationID, method, target, body, mayBy(op)}
			out = append(out, one)
			if op.OperationID == "CreateToken" { // the one call for whose roles the body counts
				one.body, one.may = `{"node":"node-9"}`, []model.Role{model.Admin}
				out = append(out, one)
			}
		}
	}
	slices.SortFunc(out, func(a, b call) int { return strings.Compare(a.name+a.body, b.name+b.body) })
	return out
}

var rolesInText = regexp.MustCompile(`^Role ([a-z]+(?:, [a-z]+)*(?: or [a-z]+)?)(?:\.|;| for |, and not |, because )`)

// mayBy reads who may make a call, by the document.
func mayBy(op *openapi3.Operation) (roles []model.Role) {
	found := rolesInText.FindStringSubmatch(op.Description)
	if found == nil {
		return everyRole
	}
	for _, name := range strings.FieldsFunc(strings.ReplaceAll(found[1], " or ", ","), func(r rune) bool { return r == ',' || r == ' ' }) {
		roles = append(roles, model.Role(name))
	}
	return roles
}

// What the document says of who may make a call is what the handlers and the state machine do.
func TestTheDocumentNamesWhoMay(t *testing.T) {
	c := newCaller(t)
	calls := c.calls()
	for _, one := range calls {
		for _, role := range one.may {
			if !slices.Contains(everyRole, role) {
				t.Fatalf("%s: the document says %q, which is no role", one.name, role)
			}
		}
	}
	// Those that are refused come first, for they change nothing.
	for _, allowed := range []bool{false, true} {
		for _, one := range calls {
			for _, role := range everyRole {
				if slices.Contains(one.may, role) != allowed {
					continue
				}
				status, answer := c.ask(role, one.method, one.path, one.body)
				if (status != http.StatusForbidden) != allowed || status == http.StatusBadRequest {
					t.Errorf("%s %s as %s, which by the document may %v: %d %.200s", one.method, one.path, role, allowed, status, answer)
				}
			}
		}
	}
}
