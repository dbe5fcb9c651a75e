package policy

import (
	"cmp"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// SecretUse is a place in policy that refers to a secret sealed to the agent that uses it.
type SecretUse struct {
	Owner string   // whose it is: a system's name, or plugin: and a plugin's name
	Name  string   // within Owner
	Field string   // that refers to it, such as token
	Sites []string // whose agents use it
	To    []string // URLs that it is sent to, or what is got or signed with it; none: it is not sent, or only the plugin knows
}

// Calls lists the URLs that a system is called at. A secret of its driver is taken to be for all
// of them: what a token server gives for it goes to the system.
func (s *System) Calls() (urls []string) {
	switch {
	case s.HTTP != nil:
		urls = append(urls, s.HTTP.URL)
		if o := s.HTTP.Auth.OAuth2; o != nil {
			urls = append(urls, o.TokenURL)
		}
	case s.Webhook != nil:
		urls = append(urls, s.Webhook.URL)
	}
	return urls
}

// PluginOwner is what secrets of a plugin are kept under: a system may have the same name.
func PluginOwner(plugin string) string { return "plugin:" + plugin }

const sealedKind = "secret:"

// intakeToken is the one field whose secret is shown to the agent, not sent by it.
const intakeToken = "token"

var secretSealed = regexp.MustCompile(`^secret:[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$`)

// SecretName says whether a text can be the name of a sealed secret.
func SecretName(name string) bool { return secretSealed.MatchString(sealedKind + name) }

// sealed takes a reference to a sealed secret. It names one of its own document only: no
// system gets to what another's agent was trusted with. The Set holds it with its owner.
func (c *compiler) sealed(f field) string {
	name := strings.TrimPrefix(f.str(), sealedKind)
	c.set.secrets = append(c.set.secrets, SecretUse{Owner: c.secretsOf, Name: name, Field: f.name})
	return sealedKind + c.secretsOf + "/" + name
}

// References lists what policy refers to secrets by, of every kind and site.
func (s *Set) References() []string { return slices.Clone(s.refs) }

// Secrets lists where policy refers to sealed secrets, by owner and name.
func (s *Set) Secrets() []SecretUse {
	out := slices.Clone(s.secrets)
	for i := range out {
		if plugin, is := strings.CutPrefix(out[i].Owner, PluginOwner("")); is {
			out[i].Sites = s.Plugins[plugin].Sites
			continue
		}
		system := s.Systems[out[i].Owner]
		if out[i].Sites = []string{system.Site}; out[i].Field != intakeToken {
			out[i].To = system.Calls()
		}
	}
	slices.SortStableFunc(out, func(a, b SecretUse) int { return cmp.Or(cmp.Compare(a.Owner, b.Owner), cmp.Compare(a.Name, b.Name)) })
	return out
}

// SecretSites says at which sites a system or plugin uses its secrets.
func (s *Set) SecretSites(owner string) (sites []string, known bool) {
	if plugin, is := strings.CutPrefix(owner, PluginOwner("")); is {
		if p := s.Plugins[plugin]; p != nil {
			return slices.Clone(p.Sites), true
		}
	} else if system := s.Systems[owner]; system != nil {
		return []string{system.Site}, true
	}
	return nil, false
}

var camel = regexp.MustCompile(`([a-z0-9])([A-Z])`)

// checkQuery refuses a secret that is written out in the query of a URL, unless that was
// approved before there was this check. It repeats the name of the parameter and never its
// value.
func (c *compiler) checkQuery(f field, o *object) {
	_, query, _ := strings.Cut(f.str(), "?")
	query, _, _ = strings.Cut(query, "#")
	for _, part := range strings.Split(query, "&") {
		key, value, _ := strings.Cut(part, "=")
		if name, err := url.QueryUnescape(key); err == nil {
			key = name
		}
		plain := strings.ToLower(camel.ReplaceAllString(key, "$1-$2"))
		if value != "" && !strings.HasPrefix(value, "{") && secretName.MatchString(plain) {
			c.styleAt(f.place, "remove it, and use auth: with a reference to the secret", "%s in %s holds the query parameter %s, which looks like a secret written out",
				f.name, o.what, quoted(key))
		}
	}
}
