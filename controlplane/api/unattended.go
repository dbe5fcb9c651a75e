package api

import (
	"fmt"
	"slices"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/block"
)

// unattendedID begins the ids of exceptions about sites without an agent.
const unattendedID = block.Control + "/no-agent/"

// unattended gives an exception for each site without an agent for which something waits, the
// newest first. They are not kept: they hold as long as that is so.
func (s *Server) unattended() (list []model.Exception) {
	for _, u := range s.store.Unattended() {
		what := "1 event waits"
		if u.Events != 1 {
			what = fmt.Sprint(u.Events, " events wait")
		}
		list = append(list, model.Exception{
			ID: unattendedID + u.Site, Agent: u.Site, Kind: "no-agent", At: u.Since,
			Text: fmt.Sprintf("%s for site %s, where no agent has been enrolled: %s", what, u.Site, s.attend(u.Site)),
		})
	}
	slices.SortStableFunc(list, func(a, b model.Exception) int { return b.At.Compare(a.At) })
	return list
}

// attend says how what waits for a site without an agent comes to its end. A token is made only
// for a site that policy has, and mail is given up only with the agent for which it waits.
func (s *Server) attend(site string) string {
	begin := "crossdock token create --site " + site
	err := s.hasSite(site)
	if err == nil {
		return begin + " begins one"
	}
	first := "no policy in force has site " + site + ": put it back (crossdock policy propose, approve), at least at --canary " + site
	if model.CodeOf(err) == model.Conflict {
		first = err.Error()
	}
	return first + "; then " + begin + " and enrol one, which fetches what waits; or, to give that up, end it then with crossdock agents revoke " + site +
		" and crossdock agents forget " + site
}

// posted is an event that its agent has handed to the relay for another agent.
type posted struct {
	hop    Hop // of the agent that accepted it
	to     string
	number uint64
}

// unfetched gives the hops of what waits in mailboxes. Only who sent an event and who got it
// know its key; until it is fetched, the sender's word is held against what the mailbox has.
func (s *Server) unfetched(known []Hop, post []posted) (hops []Hop) {
	type fetched struct{ agent, source, event string }
	got := map[fetched]bool{} // and may not be acknowledged yet
	for i := range known {
		if k := &known[i]; k.Hop == "received" {
			got[fetched{k.Agent, k.Source, k.Event}] = true
		}
	}
	byDestination := map[string][]posted{}
	for _, p := range post {
		byDestination[p.to] = append(byDestination[p.to], p)
	}
	for destination, post := range byDestination {
		if s.store.Mailbox(destination).Events == 0 {
			continue
		}
		wanted := make([]model.LaneNumber, len(post))
		for i, p := range post {
			wanted[i] = model.LaneNumber{Source: p.hop.Agent, Number: p.number}
		}
		why := s.whyUnfetched(destination)
		for i, at := range s.store.Relayed(destination, wanted) {
			h := post[i].hop
			if at.IsZero() || got[fetched{destination, h.Source, h.Event}] {
				continue
			}
			h.Hop, h.Peer, h.System, h.At, h.Detail = "relayed", destination, "", at.UTC(), why
			hops = append(hops, h)
		}
	}
	return hops
}

// whyUnfetched says what a mailbox waits for.
func (s *Server) whyUnfetched(destination string) string {
	agent, enrolled := s.store.Agent(destination)
	switch {
	case !enrolled:
		return "waits for site " + destination + ": no agent has been enrolled there"
	case !agent.Revoked.IsZero():
		return "waits for site " + destination + ": its agent is revoked"
	case !s.agents.Connected(destination):
		return "waits for site " + destination + ": its agent is not connected"
	}
	return "waits for site " + destination + " to fetch it"
}
