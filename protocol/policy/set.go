package policy

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/crossdock/crossdock/protocol/contract"
)

// Why an event's type cannot be used.
var (
	ErrUnknownContract = errors.New("unknown contract")
	ErrRetired         = errors.New("contract version is retired")
	ErrNotActive       = errors.New("contract version is not active")
)

// eventType is one major version of a contract, as events name it.
type eventType struct {
	contract *Contract
	version  *contract.Version // for events without a dataschema; nil if none is live
	err      error             // why there is none
}

// TypeName is the event type of a contract's major version.
func TypeName(contract string, major int) string { return contract + ".v" + strconv.Itoa(major) }

// ParseType takes an event type apart, such as order.captured.v1.
func ParseType(eventType string) (contract string, major int, ok bool) {
	at := strings.LastIndex(eventType, ".v")
	if at <= 0 {
		return "", 0, false
	}
	digits := eventType[at+2:]
	major, err := strconv.Atoi(digits)
	return eventType[:at], major, err == nil && major >= 0 && strconv.Itoa(major) == digits
}

// Resolve finds what governs an event: its contract, and the version that dataschema
// names, or else the newest active one of the type's major version (a deprecated one when
// no other is live). The version's State tells whether it is deprecated.
func (s *Set) Resolve(typeName, dataschema string) (*Contract, *contract.Version, error) {
	t, ok := s.types[typeName]
	if !ok {
		return nil, nil, fmt.Errorf("%w: event type %q", ErrUnknownContract, typeName)
	}
	if dataschema == "" {
		return t.contract, t.version, t.err
	}
	v, ok := s.schemas[dataschema]
	if !ok || TypeName(v.Contract, v.Major) != typeName {
		return nil, nil, fmt.Errorf("%w: dataschema %q names no version of %s", ErrUnknownContract, dataschema, typeName)
	}
	if !v.State.Live() {
		return nil, nil, stateError(v)
	}
	return t.contract, v, nil
}

func stateError(v *contract.Version) error {
	if v.State == contract.Retired {
		return fmt.Errorf("%w: %s", ErrRetired, v.URI())
	}
	return fmt.Errorf("%w: %s is a %s", ErrNotActive, v.URI(), v.State)
}

// SystemsAt lists the systems of a site by name. The slice belongs to the set.
func (s *Set) SystemsAt(site string) []*System { return s.sites[site] }

// RoutesFor lists the routes of an event type by name. The slice belongs to the set.
func (s *Set) RoutesFor(typeName string) []*Route { return s.routes[typeName] }

// Route finds a route by name.
func (s *Set) Route(name string) (*Route, bool) {
	i, ok := slices.BinarySearchFunc(s.Routes, name, func(r *Route, name string) int { return cmp.Compare(r.Name, name) })
	if !ok {
		return nil, false
	}
	return s.Routes[i], true
}

// MayPublish says whether the system publishes a contract.
func (s *System) MayPublish(contract string) bool { return slices.Contains(s.Publishes, contract) }

// AgentRole is the authority of contracts whose events the agent of a site publishes itself,
// such as what came of its calls to carriers.
const AgentRole = "agent"

// From says whether the system is the source of truth for the contract, by name or role.
func (c *Contract) From(s *System) bool { return c.Authority == s.Name || c.Authority == s.Role }

// CanDeliver says whether the system has a driver that takes deliveries.
func (s *System) CanDeliver() bool {
	return s.HTTP != nil && s.HTTP.Deliver != nil || s.Webhook != nil || s.File != nil && s.File.Deliver != nil
}

// index computes what is looked up for every event.
func (s *Set) index() {
	s.types, s.schemas = map[string]*eventType{}, map[string]*contract.Version{}
	s.routes, s.sites = map[string][]*Route{}, map[string][]*System{}
	for _, c := range s.Contracts {
		for _, v := range c.Versions { // ascending
			s.schemas[v.URI()] = v
			name := TypeName(c.Name, v.Major)
			t := s.types[name]
			if t == nil {
				t = &eventType{contract: c}
				s.types[name] = t
			}
			t.offer(v)
		}
	}
	for _, r := range s.Routes {
		s.routes[r.Type] = append(s.routes[r.Type], r)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Systems)) {
		system := s.Systems[name]
		s.sites[system.Site] = append(s.sites[system.Site], system)
	}
}

// offer takes the next newer version into account.
func (t *eventType) offer(v *contract.Version) {
	switch {
	case v.State == contract.Active, v.State == contract.Deprecated && (t.version == nil || t.version.State == contract.Deprecated):
		t.version, t.err = v, nil
	case t.version == nil:
		t.err = stateError(v)
	}
}
