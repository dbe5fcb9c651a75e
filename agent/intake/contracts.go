package intake

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/crossdock/crossdock/protocol/contract"
	"github.com/crossdock/crossdock/protocol/policy"
)

// contractView is what a developer of a local system needs of a contract.
type contractView struct {
	Name      string        `json:"name"`
	Owner     string        `json:"owner"`
	Authority string        `json:"authority"`
	Key       string        `json:"key"`
	Publish   bool          `json:"publish"` // this system may
	Versions  []versionView `json:"versions"`
}

type versionView struct {
	Version    string         `json:"version"`
	Type       string         `json:"type"`
	DataSchema string         `json:"dataschema"`
	State      contract.State `json:"state"`
	Sunset     string         `json:"sunset,omitempty"`
	Schema     string         `json:"schema"`
}

func (s *Service) listContracts(c echo.Context, at session) error {
	out := make([]contractView, 0, len(at.view.set.Contracts))
	for _, one := range at.view.set.Contracts {
		out = append(out, viewOf(one, at.caller.system))
	}
	slices.SortFunc(out, func(a, b contractView) int { return strings.Compare(a.Name, b.Name) })
	return c.JSON(http.StatusOK, out)
}

func viewOf(c *policy.Contract, from *policy.System) contractView {
	out := contractView{
		Name: c.Name, Owner: c.Owner, Authority: c.Authority, Key: c.Key.Source(),
		Publish: mayPublish(from, c) == nil, Versions: []versionView{},
	}
	for _, v := range c.Versions {
		one := versionView{
			Version: v.Semver, Type: c.Name + ".v" + strconv.Itoa(v.Major), DataSchema: v.URI(),
			State: v.State, Schema: schemaPath(v),
		}
		if !v.Sunset.IsZero() {
			one.Sunset = v.Sunset.UTC().Format("2006-01-02")
		}
		out.Versions = append(out.Versions, one)
	}
	return out
}

func (s *Service) showSchema(c echo.Context, at session) error {
	one := at.view.set.Contracts[c.Param("name")]
	if one != nil {
		for _, v := range one.Versions {
			if v.Semver == c.Param("version") {
				return c.Blob(http.StatusOK, "application/schema+json", v.Schema)
			}
		}
	}
	return problem(CodeNotFound, "the policy has no version %q of contract %q", c.Param("version"), c.Param("name"))
}
