package state

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/crossdock/crossdock/controlplane/model"
)

// Limits on what people send.
const (
	maxName       = 128
	maxText       = 4096
	maxRequestID  = 2*maxName + 1 // a principal's name, a slash, and what the caller chose
	maxPrincipals = 10_000
	maxTokens     = 10_000

	answersKept    = 24 * time.Hour // of the commands' time
	answersPurged  = 64             // at most, with one command
	spentTokenKept = 30 * 24 * time.Hour
)

var roles = []model.Role{model.Viewer, model.Operator, model.Author, model.Approver, model.Admin}

// validName accepts what can be part of a key and of a path: lower case letters, digits,
// dot, dash, underscore, beginning with a letter or digit.
func validName(name string) bool {
	for i, r := range name {
		letter := r >= 'a' && r <= 'z' || r >= '0' && r <= '9'
		if !letter && (i == 0 || !strings.ContainsRune(".-_", r)) {
			return false
		}
	}
	return name != "" && len(name) <= maxName
}

// validPrincipal is wider: people bring names such as an address. The colon stays out, as
// the record writes what agents do under "agent:".
func validPrincipal(name string) bool {
	return name != "" && len(name) <= maxName && !strings.ContainsFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(".-_@+", r))
	})
}

// clip shortens foreign text to so many bytes of valid UTF-8.
func clip(s string, n int) string {
	s = strings.ToValidUTF8(s, "\ufffd")
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

func (t *tx) bootstrap(c *model.Bootstrap) *model.Error {
	if have := t.cluster(); have != nil {
		return model.Errorf(model.Conflict, "this is already the cluster %s of %s", have.ID, have.Created.Format(time.RFC3339))
	}
	cluster, admin := c.Cluster, c.Admin
	if cluster.Approvals == "" {
		cluster.Approvals = model.ApprovalsDual
	}
	if cluster.Approvals != model.ApprovalsDual && cluster.Approvals != model.ApprovalsSingle {
		return model.Errorf(model.Invalid, "approvals are %q or %q, not %q", model.ApprovalsDual, model.ApprovalsSingle, cluster.Approvals)
	}
	if !validName(cluster.ID) {
		return model.Errorf(model.Invalid, "cluster id %q: lower case letters, digits, dot, dash and underscore are allowed", cluster.ID)
	}
	if err := checkPrincipal(&admin); err != nil {
		return err
	}
	if !admin.Has(model.Admin) || admin.Disabled || admin.TokenHash == [32]byte{} {
		return model.Errorf(model.Invalid, "the first principal has to be an enabled admin with a token")
	}
	cluster.Generation = max(cluster.Generation, 1)
	if cluster.Created.IsZero() {
		cluster.Created = c.At
	}
	if admin.Created.IsZero() {
		admin.Created = c.At
	}
	if c.Authority.ID != "" {
		if err := checkAuthority(&c.Authority); err != nil {
			return err
		}
	}
	if c.Node.ID != "" && !validName(c.Node.ID) {
		return model.Errorf(model.Invalid, "node %q: lower case letters, digits, dot, dash and underscore are allowed", clip(c.Node.ID, maxName))
	}
	cluster.Rebuilt = nil
	withDefaults(&cluster.Limits)
	put(t, tableMeta, keyCluster, &cluster)
	t.storePrincipal(nil, &admin)
	by := c.By
	if by == "" {
		by = admin.Name
	}
	t.audit(c.At, by, "cluster.bootstrap", cluster.ID, map[string]any{
		"approvals": cluster.Approvals, "admin": admin.Name, "roles": admin.Roles,
	})
	if c.Authority.ID != "" {
		t.firstAuthority(c.Authority, c.At)
	}
	if c.Node.ID != "" {
		return t.putNode(&model.PutNode{At: c.At, Node: c.Node})
	}
	return nil
}

func withDefaults(l *model.Limits) {
	if l.MailboxBytes <= 0 {
		l.MailboxBytes = model.DefaultMailboxBytes
	}
	if l.RelayBytes <= 0 {
		l.RelayBytes = model.DefaultRelayBytes
	}
	if l.Exceptions <= 0 {
		l.Exceptions = model.DefaultExceptions
	}
	if l.DeadLetters <= 0 {
		l.DeadLetters = model.DefaultDeadLetters
	}
}

// once applies a command of a principal that exists, unless it is the repeat of one: then
// the first one's answer is given again.
func (t *tx) once(cmd asked) Result {
	a := cmd.Request()
	by := get[model.Principal](t.view, tablePrincipals, []byte(a.By))
	if by == nil || by.Disabled {
		return result(nil, model.Errorf(model.Forbidden, "principal %q does not exist or is disabled", clip(a.By, maxName)))
	}
	t.purgeAnswers(a.At)
	if a.RequestID == "" {
		return t.apply(cmd)
	}
	if len(a.RequestID) > maxRequestID {
		return result(nil, model.Errorf(model.Invalid, "a request id has at most %d bytes", maxRequestID))
	}
	hash := requestHash(cmd)
	k := answerKey(a)
	if had := get[answerRow](t.view, tableAnswers, k); had != nil {
		switch {
		case had.Hash != hash:
			return result(nil, model.Errorf(model.Conflict, "request id %q was used for something else at %s", a.RequestID, had.At.Format(time.RFC3339)))
		case had.Authority != nil:
			return answer(had.Authority, had.Error)
		}
		return answer(had.Revision, had.Error)
	}
	r := t.apply(cmd)
	row := answerRow{Hash: hash, At: a.At, Error: r.Err}
	row.Revision, _ = r.Value.(*model.Revision)
	row.Authority, _ = r.Value.(*model.Authority)
	put(t, tableAnswers, k, &row)
	t.n.Answer++
	t.putRaw(tableAnswerTimes, key(timeKey(a.At), t.n.Answer), k)
	return r
}

func answerKey(a *model.Asked) []byte { return key(a.By, []byte(a.RequestID)) }

// requestHash is over what was asked, not when: a repeat comes later. Nor is it over what
// the node that took the request has made for it: with every repeat that is another.
func requestHash(cmd asked) [32]byte {
	if add, ok := cmd.(*model.AddAuthority); ok {
		cmd = &model.AddAuthority{Asked: add.Asked}
	}
	a := cmd.Request()
	at := a.At
	a.At = time.Time{}
	text, err := Encode(cmd)
	a.At = at
	if err != nil {
		panic(fault{err}) // it has been decoded from such bytes
	}
	return sha256.Sum256(text)
}

// Answered reports whether a request id has an answer. What a node looks at before it gives
// a command its place must not stand between a repeat and that answer.
func (r *Reader) Answered(a *model.Asked) (answered bool) {
	if a.RequestID == "" {
		return false
	}
	r.read(func(v view) { answered = v.raw(tableAnswers, answerKey(a)) != nil })
	return answered
}

// timeKey orders times; those before 1970 count as 1970.
func timeKey(at time.Time) uint64 { return uint64(max(at.UnixMilli(), 0)) }

func (t *tx) purgeAnswers(now time.Time) {
	before := timeKey(now.Add(-answersKept))
	var times, answers [][]byte
	t.each(tableAnswerTimes, nil, nil, func(k, value []byte) bool {
		if len(times) == answersPurged || binary.BigEndian.Uint64(k) >= before {
			return false
		}
		times, answers = append(times, slices.Clone(k)), append(answers, slices.Clone(value))
		return true
	})
	for i := range times {
		t.remove(tableAnswerTimes, times[i])
		t.remove(tableAnswers, answers[i])
	}
}

// need says who may not.
func (t *tx) need(by string, any ...model.Role) *model.Error {
	p := get[model.Principal](t.view, tablePrincipals, []byte(by))
	if p != nil && !p.Disabled && slices.ContainsFunc(any, p.Has) {
		return nil
	}
	return model.Lacks(clip(by, maxName), any...)
}

func checkPrincipal(p *model.Principal) *model.Error {
	if !validPrincipal(p.Name) {
		return model.Errorf(model.Invalid, "principal %q: letters, digits and any of .-_@+ are allowed", clip(p.Name, maxName))
	}
	for _, r := range p.Roles {
		if !slices.Contains(roles, r) {
			return model.Errorf(model.Invalid, "role %q is unknown; there are %v", clip(string(r), maxName), roles)
		}
	}
	return nil
}

func (t *tx) putPrincipal(c *model.PutPrincipal) *model.Error {
	if err := t.need(c.By, model.Admin); err != nil {
		return err
	}
	p := c.Principal
	if err := checkPrincipal(&p); err != nil {
		return err
	}
	slices.Sort(p.Roles)
	p.Roles = slices.Compact(p.Roles)
	old := get[model.Principal](t.view, tablePrincipals, []byte(p.Name))
	if c.New && old != nil {
		return model.Errorf(model.Conflict, "there is a principal %s already; names are never used again", p.Name)
	}
	if old != nil {
		p.Created = old.Created
		if p.TokenHash == [32]byte{} {
			p.TokenHash = old.TokenHash
		}
	}
	if p.Created.IsZero() {
		p.Created = c.At
	}
	if p.TokenHash == [32]byte{} {
		return model.Errorf(model.Invalid, "principal %s needs a token", p.Name)
	}
	if owner := t.raw(tablePrincipalHash, p.TokenHash[:]); owner != nil && string(owner) != p.Name {
		return model.Errorf(model.Conflict, "the token belongs to another principal")
	}
	admins, count := 0, 0
	t.each(tablePrincipals, nil, nil, func(k, value []byte) bool {
		count++
		if other := parse[model.Principal](tablePrincipals, k, value); other.Name != p.Name && !other.Disabled && other.Has(model.Admin) {
			admins++
		}
		return true
	})
	if admins == 0 && (p.Disabled || !p.Has(model.Admin)) {
		return model.Errorf(model.Conflict, "%s is the last admin; make another one first", p.Name)
	}
	if old == nil && count >= maxPrincipals {
		return model.Errorf(model.TooLarge, "there are %d principals already, which is the limit", count)
	}
	t.storePrincipal(old, &p)
	t.audit(c.At, c.By, "principal.put", p.Name, map[string]any{
		"roles": p.Roles, "disabled": p.Disabled, "newToken": old == nil || old.TokenHash != p.TokenHash,
	})
	return nil
}

// rescueAdmin makes or replaces the administrator of a node. All others stay as they are.
// Their number is not limited here: there is one for each node, and it is the way out.
func (t *tx) rescueAdmin(c *model.RescueAdmin) *model.Error {
	if !validName(c.Node) {
		return model.Errorf(model.Invalid, "node %q: lower case letters, digits, dot, dash and underscore are allowed", clip(c.Node, maxName))
	}
	p := model.Principal{Name: model.NodeAdmin(c.Node), Roles: slices.Compact(slices.Sorted(slices.Values(c.Roles))), TokenHash: c.TokenHash, Created: c.At}
	if err := checkPrincipal(&p); err != nil {
		return err
	}
	old := get[model.Principal](t.view, tablePrincipals, []byte(p.Name))
	owner := t.raw(tablePrincipalHash, p.TokenHash[:])
	switch {
	case !p.Has(model.Admin) || p.TokenHash == [32]byte{}:
		return model.Errorf(model.Invalid, "the administrator of node %s needs the role admin and a token", c.Node)
	case owner != nil && string(owner) != p.Name:
		return model.Errorf(model.Conflict, "the token belongs to another principal")
	case owner != nil && !old.Disabled && slices.Equal(old.Roles, p.Roles):
		return nil
	case old != nil:
		p.Created = old.Created
	}
	t.storePrincipal(old, &p)
	t.audit(c.At, "node:"+c.Node, "principal.rescue", p.Name, map[string]any{"roles": p.Roles, "again": old != nil})
	return nil
}

func (t *tx) storePrincipal(old, p *model.Principal) {
	if old != nil && old.TokenHash != p.TokenHash {
		t.remove(tablePrincipalHash, old.TokenHash[:])
	}
	t.putRaw(tablePrincipalHash, p.TokenHash[:], []byte(p.Name))
	put(t, tablePrincipals, []byte(p.Name), p)
}

func (t *tx) createJoinToken(c *model.CreateJoinToken) *model.Error {
	token, role := c.Token, model.Operator
	if token.Node != "" {
		role = model.Admin // a node holds all that the cluster has
	}
	if err := t.need(c.By, role); err != nil {
		return err
	}
	switch {
	case (token.Site == "") == (token.Node == ""):
		return model.Errorf(model.Invalid, "a token is for a site or for a node")
	case !validName(token.ID) || !validName(token.Site+token.Node):
		return model.Errorf(model.Invalid, "a token's id and site or node are lower case letters, digits, dot, dash and underscore")
	case token.Hash == [32]byte{}:
		return model.Errorf(model.Invalid, "the token has no secret")
	case !token.Expires.After(c.At):
		return model.Errorf(model.Invalid, "the token would expire before it exists, at %s", token.Expires.Format(time.RFC3339))
	case t.raw(tableTokens, []byte(token.ID)) != nil:
		return model.Errorf(model.Conflict, "there is a token %s already", token.ID)
	}
	if count := t.purgeTokens(c.At); count >= maxTokens {
		return model.Errorf(model.TooLarge, "there are %d tokens already, which is the limit", count)
	}
	token.By, token.Created, token.Used, token.Refused = c.By, c.At, time.Time{}, 0
	put(t, tableTokens, []byte(token.ID), &token)
	t.audit(c.At, c.By, "token.create", token.ID, map[string]any{"site": token.Site, "node": token.Node, "expires": token.Expires})
	return nil
}

// purgeTokens forgets tokens that expired long ago and counts the rest.
func (t *tx) purgeTokens(now time.Time) (count int) {
	var old [][]byte
	t.each(tableTokens, nil, nil, func(k, value []byte) bool {
		if parse[model.JoinToken](tableTokens, k, value).Expires.Before(now.Add(-spentTokenKept)) {
			old = append(old, slices.Clone(k))
		} else {
			count++
		}
		return true
	})
	for _, k := range old {
		t.remove(tableTokens, k)
	}
	return count
}

func hexOf(b [32]byte) string { return fmt.Sprintf("%x", b[:]) }
