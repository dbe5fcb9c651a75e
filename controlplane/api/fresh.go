package api

import (
	"context"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/crossdock/crossdock/controlplane/model"
)

// StaleHeader stands on an answer to a read when it may be older than what another node has
// answered already, and says why.
const StaleHeader = "Crossdock-Stale"

const maxStale = 200 // bytes of the reason

func (s *Server) fresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, freshTimeout)
	defer cancel()
	return s.store.Fresh(ctx)
}

// refresh makes sure that a handler reads what was answered before, on any node. A read that
// cannot have that gets what is here, and is told. A change is refused: many look at what
// is there first, and without a leader none could be made anyway.
func (s *Server) refresh(operations operations) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			op, known := operations.find(c)
			if !known || op.open {
				return next(c)
			}
			if err := s.fresh(c.Request().Context()); err != nil {
				if op.changes {
					return model.Errorf(model.Unavailable, "nothing was done: this node cannot reach a leader now (%v); try again, or on another node", err)
				}
				c.Response().Header().Set(StaleHeader, staleReason(err))
			}
			return next(c)
		}
	}
}

// staleReason makes one printable line of an error.
func staleReason(err error) string {
	text := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, err.Error())
	if len(text) > maxStale {
		text = text[:maxStale]
	}
	if text = strings.TrimSpace(text); text == "" {
		text = "no leader"
	}
	return text
}
