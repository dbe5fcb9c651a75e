package intake

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/time/rate"

	"github.com/crossdock/crossdock/protocol/policy"
)

// tokenReread is how soon after the last reading an unknown token has the secrets read
// again: a token can change without a new revision.
const tokenReread = 30 * time.Second

// unreadReread is the same while a token is there and its disk does not give it.
const unreadReread = time.Second

const (
	defaultRate  = 1000
	defaultBurst = 2000
)

// view is what intake derives from one revision. It is immutable.
type view struct {
	set     *policy.Set
	router  Router
	callers []*caller
	byName  map[string]*caller
	read    time.Time // when the tokens were
	since   time.Time // when this agent first held the revision
	unread  bool      // a token is there and could not be read: an unknown one may be it
	turn    uint64    // of the secrets
}

// caller is one system of this site.
type caller struct {
	system  *policy.System
	limiter *limiter
	token   [sha256.Size]byte // hash of the token
	open    bool              // it has a token
	former  former            // the token before, while both are valid
	closed  string            // why it has none that works, though the policy names one
}

// former is a token that was replaced and is still taken.
type former struct {
	token [sha256.Size]byte
	open  bool
	until time.Time // zero: until it is dropped
}

// SecretsChanged has the tokens read again at the next request.
func (s *Service) SecretsChanged() { s.secretsTurn.Add(1) }

// current gives the view of the revision in force.
func (s *Service) current() (*view, *Problem) {
	set := s.parts.Policy.Policy()
	if v := s.view.Load(); v != nil && v.set == set && v.turn == s.secretsTurn.Load() {
		return v, nil
	}
	if set == nil {
		return nil, problem(CodeNotReady, "wait until the agent has reached the control plane once")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// Read again: a request that was slow to get here must not bring back an older one.
	if set = s.parts.Policy.Policy(); set == nil {
		return nil, problem(CodeNotReady, "wait until the agent has reached the control plane once")
	}
	v := s.view.Load()
	switch {
	case v == nil || v.set != set:
		v = s.build(set, s.parts.NewRouter(set))
		s.view.Store(v)
	case v.turn != s.secretsTurn.Load():
		v = s.rebuild(v)
	}
	return v, nil
}

// reread builds the view anew if its tokens are old.
func (s *Service) reread(old *view) *view {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.view.Load()
	if v == old && s.parts.Now().Sub(v.read) >= v.rereadAfter() {
		v = s.rebuild(v)
	}
	return v
}

// rebuild reads the tokens of a view again; s.mu is held.
func (s *Service) rebuild(old *view) *view {
	v := s.build(old.set, old.router)
	v.since = old.since
	s.view.Store(v)
	return v
}

func (v *view) rereadAfter() time.Duration {
	if v.unread {
		return unreadReread
	}
	return tokenReread
}

// build reads tokens and limits; s.mu is held. What keeps a system from posting is logged
// once, and again when it is another thing.
func (s *Service) build(set *policy.Set, router Router) *view {
	old := s.view.Load()
	v := &view{set: set, router: router, byName: map[string]*caller{}, read: s.parts.Now(), turn: s.secretsTurn.Load()}
	v.since = v.read
	for _, system := range set.SystemsAt(s.cfg.Site) {
		c := &caller{system: system, limiter: s.limiterOf(system)}
		if system.Intake.Token != "" {
			token, err := s.parts.Secrets.Resolve(system.Intake.Token)
			token = bytes.TrimSpace(token)
			switch {
			case err != nil && ofDisk(err) && old.caller(system.Name).opens(system):
				v.unread = true
				c.token, c.open = old.caller(system.Name).token, true // as it was read last
			case err != nil:
				v.unread = v.unread || ofDisk(err)
				c.closed = "its token " + system.Intake.Token + " cannot be read: " + err.Error()
			case len(token) == 0:
				c.closed = "its token " + system.Intake.Token + " is empty"
			default:
				c.token, c.open = sha256.Sum256(token), true
				c.former = s.formerOf(system.Intake.Token)
			}
		}
		v.callers = append(v.callers, c)
		v.byName[system.Name] = c
	}
	v.closeShared()
	for _, c := range v.callers {
		if before := old.caller(c.system.Name); c.closed != "" && (before == nil || before.closed != c.closed) {
			s.log.Warn("a system cannot post events", "system", c.system.Name, "why", c.closed)
		}
	}
	return v
}

// formerOf reads the token before the newest while both are valid.
func (s *Service) formerOf(ref string) (f former) {
	formers, ok := s.parts.Secrets.(Formers)
	if !ok {
		return f
	}
	value, until, valid := formers.Former(ref)
	if value = bytes.TrimSpace(value); !valid || len(value) == 0 {
		return f
	}
	return former{token: sha256.Sum256(value), open: true, until: until}
}

// closeShared closes what two systems have as token: nobody could say who is calling.
func (v *view) closeShared() {
	for i, c := range v.callers {
		for _, o := range v.callers[:i] {
			if c.open && o.token == c.token {
				c.open, c.closed = false, "it has the same token as system "+o.system.Name
				o.open, o.closed = false, "it has the same token as system "+c.system.Name
			}
			if c.former.open && o.former.open && c.former.token == o.former.token {
				c.former.open, o.former.open = false, false
			}
			c.former.open = c.former.open && c.former.token != o.token
			o.former.open = o.former.open && o.former.token != c.token
		}
	}
}

// caller gives a system of the view, which may be nil.
func (v *view) caller(name string) *caller {
	if v == nil {
		return nil
	}
	return v.byName[name]
}

// opens reports whether a caller, which may be nil, had a token by the same reference.
func (c *caller) opens(system *policy.System) bool {
	return c != nil && c.open && c.system.Intake.Token == system.Intake.Token
}

// ofDisk tells a file that is there, and that the machine does not give just now, from one
// that is missing and a reference that is wrong.
func ofDisk(err error) bool {
	for _, errno := range []syscall.Errno{syscall.EIO, syscall.EMFILE, syscall.ENFILE, syscall.ESTALE, syscall.ETIMEDOUT} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// Closed says of the systems whose token does not work why they cannot post. It looks again
// after a while: a file may have been put in place.
func (s *Service) Closed() map[string]string {
	v, p := s.current()
	if p != nil {
		return nil
	}
	out := v.closed()
	if len(out) > 0 {
		out = s.reread(v).closed()
	}
	return out
}

func (v *view) closed() map[string]string {
	out := map[string]string{}
	for _, c := range v.callers {
		if c.closed != "" {
			out[c.system.Name] = c.closed
		}
	}
	return out
}

// authenticate finds the system whose bearer token the request carries.
func (s *Service) authenticate(v *view, h http.Header) (*view, *caller, *Problem) {
	values := h.Values("Authorization")
	if len(values) != 1 {
		return v, nil, problem(CodeUnauthenticated, "send the system's token in one Authorization header: Bearer <token>")
	}
	scheme, token, ok := strings.Cut(values[0], " ")
	if token = strings.TrimSpace(token); !ok || !strings.EqualFold(scheme, "Bearer") || token == "" {
		return v, nil, problem(CodeUnauthenticated, "send the system's token in one Authorization header: Bearer <token>")
	}
	sum := sha256.Sum256([]byte(token))
	now := s.parts.Now()
	if c := v.find(sum, now); c != nil {
		return v, c, nil
	}
	if fresh := s.reread(v); fresh != v {
		v = fresh
		if c := v.find(sum, now); c != nil {
			return v, c, nil
		}
	}
	if v.unread { // who is refused for good must not be the right one
		p := problem(CodeTokensUnread, "a token of site %s cannot be read now, which may be this one; send the same again", s.cfg.Site)
		p.retryAfter = int(unreadReread / time.Second)
		return v, nil, p
	}
	return v, nil, problem(CodeUnauthenticated, "the token is not that of a system at site %s", s.cfg.Site)
}

// find compares with every token in full, so that time tells nothing about any.
func (v *view) find(sum [sha256.Size]byte, now time.Time) *caller {
	var found *caller
	for _, c := range v.callers {
		if subtle.ConstantTimeCompare(c.token[:], sum[:]) == 1 && c.open {
			found = c
		}
		if f := &c.former; subtle.ConstantTimeCompare(f.token[:], sum[:]) == 1 && f.open && (f.until.IsZero() || now.Before(f.until)) {
			found = c
		}
	}
	return found
}

// limiter bounds the events that a system sends.
type limiter struct {
	*rate.Limiter
}

// limiterOf keeps a system's limiter over revisions; s.mu is held.
func (s *Service) limiterOf(system *policy.System) *limiter {
	perSecond, burst := system.Intake.Rate, system.Intake.Burst
	if perSecond <= 0 {
		perSecond = defaultRate
	}
	if burst <= 0 {
		burst = defaultBurst
	}
	l := s.limiters[system.Name]
	if l == nil {
		l = &limiter{rate.NewLimiter(rate.Limit(perSecond), burst)}
		s.limiters[system.Name] = l
	}
	now := s.parts.Now()
	if l.Limit() != rate.Limit(perSecond) {
		l.SetLimitAt(now, rate.Limit(perSecond))
	}
	if l.Burst() != burst {
		l.SetBurstAt(now, burst)
	}
	return l
}

// take spends the events of one request of which some are paid for already, or says when
// they can be had.
func (l *limiter) take(now time.Time, n, paid int) *Problem {
	if n > l.Burst() {
		return problem(CodeTooLarge, "%d events at once, this system may send %d", n, l.Burst())
	}
	if l.AllowN(now, n-paid) {
		return nil
	}
	p := problem(CodeRateLimited, "the limit is %g events a second, %d at once", float64(l.Limit()), l.Burst())
	p.retryAfter = max(1, l.secondsUntil(now, float64(n)))
	return p
}

func (l *limiter) secondsUntil(now time.Time, tokens float64) int {
	return seconds(tokens-l.TokensAt(now), l.Limit())
}

// seconds is how long so many tokens take to come, in whole seconds.
func seconds(tokens float64, perSecond rate.Limit) int {
	return int(math.Ceil(math.Max(0, tokens) / float64(perSecond)))
}

// The names of the fields as a header holds them.
var (
	limitField  = http.CanonicalHeaderKey("RateLimit")
	policyField = http.CanonicalHeaderKey("RateLimit-Policy")
)

// describe writes the RateLimit fields of the IETF HTTPAPI draft: the quota q is what may
// come at once, the window w is the time in which an empty one fills up again.
func (l *limiter) describe(now time.Time, h http.Header) {
	burst, limit, left := l.Burst(), l.Limit(), l.TokensAt(now)
	field := func(q string, first int, w string, second int) []string {
		text := append(make([]byte, 0, 48), `"events";`...)
		text = strconv.AppendInt(append(text, q...), int64(first), 10)
		text = strconv.AppendInt(append(text, w...), int64(second), 10)
		return []string{string(text)}
	}
	h[policyField] = field("q=", burst, ";w=", max(1, seconds(float64(burst), limit)))
	h[limitField] = field("r=", max(0, int(left)), ";t=", seconds(float64(burst)-left, limit))
}
