package api

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/crossdock/crossdock/controlplane/model"
)

// A token reads xdk_<id>_<secret>: the id tells tokens apart in a log or a vault without
// giving anything away, the secret has 256 bits, so that a plain hash of it is safe to keep.
const (
	tokenPrefix   = "xdk_"
	tokenIDBytes  = 5
	tokenSecret   = 32
	maxTokenBytes = 128
)

var tokenText = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// MintPrincipalToken makes a token and the hash that the state keeps of it.
func MintPrincipalToken() (text string, hash [32]byte) {
	var id [tokenIDBytes]byte
	var secret [tokenSecret]byte
	rand.Read(id[:]) // never fails: the process ends when the system has no randomness
	rand.Read(secret[:])
	text = tokenPrefix + hex.EncodeToString(id[:]) + "_" + tokenText.EncodeToString(secret[:])
	return text, HashPrincipalToken(text)
}

// HashPrincipalToken is how the state knows a token.
func HashPrincipalToken(text string) [32]byte { return sha256.Sum256([]byte(text)) }

// ApprovalsHeader stands on every answer of a cluster where one person may approve what
// they wrote themselves, so that every tool can say so.
const ApprovalsHeader = "Crossdock-Approvals"

type principalKey struct{}

// principalFrom gives who asks. Every handler but health runs behind authenticate.
func principalFrom(ctx context.Context) model.Principal {
	p, _ := ctx.Value(principalKey{}).(model.Principal)
	return p
}

// authenticate lets a request through that brings a known principal's token, or whose
// operation the document declares open.
func (s *Server) authenticate(operations operations) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			if op, known := operations.find(c); known && op.open {
				return next(c)
			}
			principal, err := s.identify(c.Request().Context(), c.Request().Header.Values(echo.HeaderAuthorization))
			if err != nil {
				s.metrics.authFailed()
				c.Response().Header().Set("WWW-Authenticate", `Bearer realm="crossdock"`)
				return err
			}
			if cluster, known := s.store.Cluster(); known && cluster.Approvals == model.ApprovalsSingle {
				c.Response().Header().Set(ApprovalsHeader, string(cluster.Approvals))
			}
			ctx := context.WithValue(c.Request().Context(), principalKey{}, principal)
			c.SetRequest(c.Request().WithContext(ctx))
			return next(c)
		}
	}
}

// catchUp waits for what other nodes know already: the token may have been made on one of
// them a moment ago. Only a few may ask for it at once, because anyone can.
func (s *Server) catchUp(ctx context.Context) bool {
	select {
	case s.doubts <- struct{}{}:
		defer func() { <-s.doubts }()
	default:
		return false
	}
	return s.fresh(ctx) == nil
}

func (s *Server) identify(ctx context.Context, headers []string) (model.Principal, error) {
	if len(headers) != 1 {
		return model.Principal{}, model.Errorf(model.Unauthorized, "send one header Authorization: Bearer xdk_...")
	}
	scheme, token, _ := strings.Cut(headers[0], " ")
	token = strings.TrimSpace(token)
	if !strings.EqualFold(scheme, "Bearer") || !strings.HasPrefix(token, tokenPrefix) || len(token) > maxTokenBytes {
		return model.Principal{}, model.Errorf(model.Unauthorized, "the Authorization header is not Bearer with a token of the form xdk_<id>_<secret>")
	}
	hash := HashPrincipalToken(token)
	principal, known := s.store.Principal(hash)
	if !known && s.catchUp(ctx) {
		principal, known = s.store.Principal(hash)
	}
	if !known || principal.Disabled {
		// One text for both: a stranger learns nothing about what once existed.
		return model.Principal{}, model.Errorf(model.Unauthorized, "the token is not known here, or its principal is disabled")
	}
	return principal, nil
}
