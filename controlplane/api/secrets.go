package api

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"slices"
	"strings"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/policy"
	"github.com/crossdock/crossdock/protocol/sealing"
)

// The ways in which a secret stands at its agent.
const (
	secretInUse     = "in use"
	secretWaiting   = "waiting"
	secretRefused   = "refused"
	secretFormerKey = "former key"
	secretDropped   = "dropped"
	secretDropping  = "dropping"
	secretNewer     = "newer at agent"
)

// ListSecrets lists the secrets with how each stands at its agent, as that last said.
func (s *Server) ListSecrets(_ context.Context, _ ListSecretsRequestObject) (ListSecretsResponseObject, error) {
	answer, said := ListSecrets200JSONResponse{Items: []Secret{}}, s.numberReports()
	for _, one := range s.store.SecretMarks("") {
		answer.Items = append(answer.Items, toSecret(&one, said[one.Agent]))
	}
	return answer, nil
}

// SetSecret keeps a secret that only its agent can open.
func (s *Server) SetSecret(ctx context.Context, r SetSecretRequestObject) (SetSecretResponseObject, error) {
	b, name := r.Body, r.Body.Owner+"/"+r.Body.Name
	cmd := &model.SetSecret{Asked: s.asked(ctx, r.Params.IdempotencyKey), Agent: b.Agent, Name: name, Version: b.Version,
		Recipient: b.Recipient, Sealed: b.Sealed, KeepFormer: b.KeepFormer}
	if b.KeepFormer {
		cmd.FormerUntil = b.FormerUntil.UTC()
	}
	if !strings.HasPrefix(string(b.Sealed), sealedBegins) {
		return nil, model.Errorf(model.Invalid, "what is to be kept is no sealed secret: crossdock secret set seals it; nothing was kept")
	}
	if _, err := s.store.Apply(ctx, cmd); err != nil {
		return nil, err
	}
	for _, one := range s.store.SecretMarks(b.Agent) {
		if one.Name == name {
			return SetSecret200JSONResponse(toSecret(&one, s.numberReports()[one.Agent])), nil
		}
	}
	return nil, model.Errorf(model.NotFound, "secret %s of agent %s is gone again", name, b.Agent)
}

// sealedBegins is what every age file begins with. It keeps out who sends a secret in the clear.
const sealedBegins = "age-encryption.org/v1\n"

// DropSecret drops a secret, or its former value.
func (s *Server) DropSecret(ctx context.Context, r DropSecretRequestObject) (DropSecretResponseObject, error) {
	_, err := s.store.Apply(ctx, &model.DropSecret{Asked: s.asked(ctx, r.Params.IdempotencyKey), Agent: r.Agent, Name: r.Owner + "/" + r.Name, Former: r.Params.Former})
	return DropSecret204Response{}, err
}

// ListSecretTargets tells to which keys a secret is to be sealed. The caller verifies what it
// is told: a node that lies must not be sealed to.
func (s *Server) ListSecretTargets(ctx context.Context, r ListSecretTargetsRequestObject) (ListSecretTargetsResponseObject, error) {
	if p := principalFrom(ctx); !p.Has(model.Operator) {
		return nil, model.Errorf(model.Forbidden, "%s is no operator, and sets no secrets", p.Name)
	}
	sites, uses, err := s.secretUses(ctx, r.Params.Owner, r.Params.Site)
	if err != nil {
		return nil, err
	}
	if r.Params.Site != "" {
		if len(sites) > 0 && !slices.Contains(sites, r.Params.Site) {
			return nil, model.Errorf(model.Invalid, "%s is not at site %s, but at %s", r.Params.Owner, r.Params.Site, strings.Join(sites, ", "))
		}
		sites = []string{r.Params.Site}
	}
	if len(sites) == 0 {
		return nil, model.Errorf(model.NotFound, "the policy in force has no %s: name its site as well, or put it into the policy first", r.Params.Owner)
	}
	names, hosts := secretHosts(uses)
	answer := ListSecretTargets200JSONResponse{Names: orEmpty(names), Hosts: hosts, Items: []SecretTarget{}}
	for _, site := range sites {
		target, err := s.secretTarget(site, r.Params.Owner)
		if err != nil {
			return nil, err
		}
		answer.Items = append(answer.Items, target)
	}
	return answer, nil
}

// secretUses says where policy has a system or plugin, and how that refers to secrets: by the
// revision in force, and at canary sites by the one that they have as well. With a site, only
// what is in force there counts.
func (s *Server) secretUses(ctx context.Context, owner, site string) (sites []string, uses []policy.SecretUse, err error) {
	look := func(number uint64, has func(site string) bool) error {
		_, set, err := s.compiled(ctx, number)
		if err != nil {
			return err
		}
		found, _ := set.SecretSites(owner)
		found = slices.DeleteFunc(found, func(site string) bool { return !has(site) })
		if len(found) == 0 {
			return nil
		}
		for _, one := range found {
			if !slices.Contains(sites, one) {
				sites = append(sites, one)
			}
		}
		uses = append(uses, slices.DeleteFunc(set.Secrets(), func(use policy.SecretUse) bool { return use.Owner != owner })...)
		return nil
	}
	if active, known := s.store.Active(); known {
		if err := look(active.ID.Number, func(string) bool { return true }); err != nil {
			return nil, nil, err
		}
	}
	if canary, known := s.canary(); known {
		err = look(canary.ID.Number, func(at string) bool { return slices.Contains(canary.Canary, at) && (site == "" || at == site) })
	}
	return sites, uses, err
}

// secretHosts gives the names that are referred to, and where those that are sent only are sent.
func secretHosts(uses []policy.SecretUse) (names []string, hosts map[string][]string) {
	hosts = map[string][]string{}
	for _, use := range uses {
		if !slices.Contains(names, use.Name) {
			names = append(names, use.Name)
			hosts[use.Name] = []string{}
		}
	}
	for _, use := range uses {
		for _, to := range use.To {
			u, err := url.Parse(to)
			if err != nil {
				continue // policy was compiled: it is one
			}
			origin := u.Scheme + "://" + u.Host
			if known, sent := hosts[use.Name]; sent && !slices.Contains(known, origin) {
				hosts[use.Name] = append(known, origin)
			}
		}
		if len(use.To) == 0 {
			delete(hosts, use.Name)
		}
	}
	return names, hosts
}

// secretTarget is what is known of the agent of a site, which is called like the site.
func (s *Server) secretTarget(site, owner string) (target SecretTarget, err error) {
	agent, known := s.store.Agent(site)
	if !known || !agent.Revoked.IsZero() {
		return target, model.Errorf(model.Conflict, "site %s has no agent: enrol one first, since a secret is sealed to its key", site)
	}
	cluster, _ := s.store.Cluster()
	target = SecretTarget{Cluster: cluster.ID, Agent: agent.Name, RegisteredKey: hex.EncodeToString(agent.Key[:]),
		Versions: map[string]uint64{}, Held: map[string]uint64{}}
	var said model.AgentStatus
	if len(agent.Status) > 0 && json.Unmarshal(agent.Status, &said) == nil && said.Sealing.Recipient != "" { // an agent may say anything
		target.Recipient, target.Key, target.Signature = said.Sealing.Recipient, said.Sealing.Key, said.Sealing.Signature
		target.Fingerprint, target.TakesOnly = sealing.Fingerprint(said.Sealing.Recipient), said.Sealing.Only
	}
	note := func(of map[string]uint64, full string, version uint64) {
		if name, is := strings.CutPrefix(full, owner+"/"); is {
			of[name] = max(of[name], version)
		}
	}
	for _, one := range s.store.SecretMarks(agent.Name) {
		note(target.Versions, one.Name, one.Version)
	}
	target.Only = map[string][]string{}
	for _, one := range said.Secrets {
		note(target.Versions, one.Name, one.Version)
		note(target.Held, one.Name, one.Version)
		if name, is := strings.CutPrefix(one.Name, owner+"/"); is && len(one.Only) > 0 {
			target.Only[name] = one.Only
		}
	}
	return target, nil
}

func toSecret(s *model.SecretMark, said model.AgentStatus) Secret {
	owner, name, _ := strings.Cut(s.Name, "/")
	out := Secret{Agent: s.Agent, Owner: owner, Name: name, Version: s.Version, By: s.By, At: s.At, Former: s.Former, FormerUntil: s.FormerUntil}
	for _, one := range said.Secrets {
		if one.Name == s.Name {
			out.Held, out.Refused = one.Version, one.Refused
			if one.Version == s.Version { // else it is of another value
				out.Only = one.Only
			}
		}
	}
	if s.Recipient != "" {
		out.Key = sealing.Fingerprint(s.Recipient)
	}
	switch {
	case s.Dropped && out.Held == s.Version:
		out.State = secretDropped
	case s.Dropped && out.Held > s.Version:
		out.State = secretNewer
	case s.Dropped:
		out.State = secretDropping
	case said.Sealing.Recipient != "" && said.Sealing.Recipient != s.Recipient:
		out.State = secretFormerKey
	case out.Refused != "":
		out.State = secretRefused
	case out.Held > s.Version:
		out.State = secretNewer
	case out.Held == s.Version:
		out.State = secretInUse
	default:
		out.State = secretWaiting
	}
	return out
}
