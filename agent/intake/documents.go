package intake

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
)

// DocumentsAttribute is the extension attribute in which an event names its documents.
const DocumentsAttribute = "documents"

// What Documents answers where it has none or takes none; adapters map their own.
var (
	ErrNoDocument      = errors.New("no such document here")
	ErrDocumentDamaged = errors.New("the document is damaged")
	ErrDocumentsFull   = errors.New("there is no room for documents")
	ErrDocumentLarge   = errors.New("the document is too large")
	ErrDocument        = errors.New("not a document, nor the name of one")
)

// Reference names a document.
type Reference struct {
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
	Type   string `json:"type"`
}

// Document is an open one. Whoever got it closes it.
type Document struct {
	Reference
	Stored  time.Time
	Content io.ReadSeeker
	Close   func() error
}

// Documents keeps what is too large for an event.
type Documents interface {
	Put(ctx context.Context, mediaType string, content io.Reader) (Reference, error)
	Get(sha256 string) (*Document, error)
	// Named reports whether all that an attribute names are here: ErrNoDocument, ErrDocument.
	Named(value string) error
}

// namesDocuments refuses an event that names no documents. One that names what is not here is
// taken only as a repeat: whoever gets it would wait in vain.
func (s *Service) namesDocuments(a *admission) *Problem {
	value, ok := a.Event.Extensions[DocumentsAttribute]
	if !ok || s.parts.Documents == nil {
		return nil
	}
	err := s.parts.Documents.Named(value)
	if err == nil {
		return nil
	}
	p := documentProblem(err).at("/"+DocumentsAttribute, "document", err.Error())
	if errors.Is(err, ErrNoDocument) {
		a.lacks, a.RepeatOnly = p, true
		return nil
	}
	return p
}

// putDocument keeps a document; its name is in the answer once it is durable.
func (s *Service) putDocument(c echo.Context, at session) error {
	now := s.parts.Now()
	p := at.caller.limiter.take(now, 1, 0)
	at.caller.limiter.describe(now, c.Response().Header())
	if p != nil {
		return p
	}
	r := c.Request()
	if r.Header.Get("Content-Encoding") != "" {
		return problem(CodeMediaType, "send the document as it is, without a content encoding")
	}
	ref, err := s.parts.Documents.Put(r.Context(), r.Header.Get("Content-Type"), r.Body)
	if err != nil {
		return documentProblem(err)
	}
	c.Response().Header().Set("Location", "/v1/documents/"+ref.SHA256)
	return c.JSON(http.StatusCreated, ref)
}

// getDocument gives a document or a part of it.
func (s *Service) getDocument(c echo.Context, at session) error {
	now := s.parts.Now()
	h := c.Response().Header()
	p := at.caller.limiter.take(now, 1, 0)
	at.caller.limiter.describe(now, h)
	if p != nil {
		return p
	}
	d, err := s.parts.Documents.Get(c.Param("sha256"))
	if errors.Is(err, ErrNoDocument) {
		return problem(CodeNotFound, "%v", err).because(err)
	}
	if err != nil {
		return documentProblem(err)
	}
	defer func() { _ = d.Close() }() // opened for reading
	h.Set("Content-Type", d.Type)
	h.Set("ETag", `"`+d.SHA256+`"`)
	h.Set("Cache-Control", "private, immutable")
	// Whatever a system has put is shown to nobody as a page of this address.
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Disposition", "attachment")
	h.Set("Content-Security-Policy", "sandbox")
	http.ServeContent(c.Response(), c.Request(), "", d.Stored, d.Content)
	return nil
}

func documentProblem(err error) *Problem {
	switch {
	case errors.Is(err, ErrNoDocument):
		return problem(CodeNoDocument, "%v; put it first: POST /v1/documents", err).because(err)
	case errors.Is(err, ErrDocumentDamaged):
		return problem(CodeDocumentDamaged, "%v", err).because(err)
	case errors.Is(err, ErrDocumentsFull):
		p := problem(CodeDocumentsFull, "%v", err).because(err)
		p.retryAfter = 30
		return p
	case errors.Is(err, ErrDocumentLarge):
		return problem(CodeTooLarge, "%v", err).because(err)
	case errors.Is(err, ErrDocument):
		return problem(CodeInvalidRequest, "%v", err).because(err)
	}
	return problem(CodeUnavailable, "the document could not be handled: send the same again; the agent's log says more").because(err)
}
