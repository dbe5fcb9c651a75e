package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/crossdock/crossdock/controlplane/api"
	"github.com/crossdock/crossdock/protocol/policy"
	"github.com/crossdock/crossdock/protocol/sealing"
)

// checkHosts reads what a person says of where a secret may be sent.
func (n *newSecret) checkHosts(owner string) error {
	switch {
	case len(n.onlyTo) == 0:
		return nil
	case n.anywhere:
		return usageError("give --only-to or --anywhere, not both")
	case ofPlugin(owner):
		return usageError("--only-to is for what the agent itself sends; where %s sends its secrets only the plugin knows, so set it without", owner)
	}
	var hosts []string
	for _, text := range n.onlyTo {
		host, err := sealing.Host(text)
		if err != nil {
			return usageError("--only-to: %w", err)
		}
		if !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	n.onlyTo = hosts
	return nil
}

// mayBeFor says why a secret is not to be set with the hosts that were given, or without any.
// What policy has it sent to is only the control plane's word, and so for a person to judge.
func (a *app) mayBeFor(n *newSecret, owner, name string, to *api.SecretTargets) error {
	var policyHas []string
	for _, origin := range to.Hosts[name] {
		if host, err := sealing.HostOf(origin); err == nil && (len(n.onlyTo) == 0 || !sealing.Allows(n.onlyTo, origin)) {
			policyHas = append(policyHas, host)
		}
	}
	if len(n.onlyTo) == 0 {
		return a.mayBeForAny(n, owner, name, to.Items, policyHas)
	}
	for i := range to.Items {
		if t := &to.Items[i]; !t.TakesOnly {
			return &exitError{exitConflict, fmt.Errorf("nothing was set: agent %s, or the control plane, runs a version that does not know --only-to; upgrade it first", t.Agent)}
		}
	}
	if _, sent := to.Hosts[name]; slices.Contains(to.Names, name) && !sent {
		return usageError("policy has secret:%s of %s shown to the agent as a token, and sends it to nobody: set it without --only-to", name, owner)
	}
	if len(policyHas) > 0 {
		fmt.Fprintf(a.stderr, "the policy in force has it sent to %s as well, which you did not name: the agent does not use it until that policy is changed\n", clean(strings.Join(policyHas, ", ")))
	}
	return nil
}

// mayBeForAny keeps a restriction from being lifted because somebody did not think of it. For
// which hosts a value is stands in what is sealed: of one that the agent does not hold yet, it is
// not known here.
func (a *app) mayBeForAny(n *newSecret, owner, name string, targets []api.SecretTarget, policyHas []string) error {
	known := true
	for i := range targets {
		t := &targets[i]
		if only := t.Only[name]; len(only) > 0 && !n.anywhere {
			return usageError("%s/%s at agent %s is for %s only: give --only-to again, or --anywhere to lift that", owner, name, t.Agent, clean(strings.Join(only, ", ")))
		}
		if now := t.Versions[name]; now > t.Held[name] && !n.anywhere && !ofPlugin(owner) {
			return usageError("nothing was set: agent %s has not said that it holds version %d of %s/%s, and until then nobody can tell whether that is for certain hosts only: "+
				"give --only-to with the hosts that may get the new value, or --anywhere", t.Agent, now, owner, name)
		}
		known = known && t.TakesOnly
	}
	if known && len(policyHas) > 0 && !n.anywhere {
		fmt.Fprintf(a.stderr, "the policy in force has it sent to %s; if that is right, --only-to %s keeps it from being sent anywhere else, whatever policy says later\n",
			clean(strings.Join(policyHas, ", ")), clean(strings.Join(policyHas, " --only-to ")))
	}
	return nil
}

// ofPlugin says whether a secret is a plugin's, which is never for certain hosts only.
func ofPlugin(owner string) bool { return strings.HasPrefix(owner, policy.PluginOwner("")) }
