package intake

import (
	"fmt"
	"net/http"
	"strconv"
)

// ProblemBase is what the type of every problem begins with; the code follows.
const ProblemBase = "https://crossdock.dev/problems/"

// Code names one kind of refusal. It is stable: clients may branch on it.
type Code string

// The codes. Status, title and whether a retry can help stand in the table below.
const (
	CodeInvalidEvent    Code = "invalid-event"
	CodeTooDeep         Code = "too-deep"
	CodeUnauthenticated Code = "unauthenticated"
	CodeNotPublisher    Code = "not-publisher"
	CodeNotFound        Code = "not-found"
	CodeMethod          Code = "method-not-allowed"
	CodeConflict        Code = "conflict"
	CodeRetired         Code = "retired-contract"
	CodeTooLarge        Code = "too-large"
	CodeMediaType       Code = "unsupported-media-type"
	CodeUnknownContract Code = "unknown-contract"
	CodeInvalidData     Code = "invalid-data"
	CodeRateLimited     Code = "rate-limited"
	CodeInternal        Code = "internal"
	CodeUnavailable     Code = "unavailable"
	CodeNotReady        Code = "not-ready"
	CodeTokensUnread    Code = "tokens-unread"
	CodeQueueFull       Code = "queue-full"
	CodeInvalidRequest  Code = "invalid-request"
	CodeReference       Code = "reference-conflict"
	CodeNoNumbers       Code = "no-numbers"
	CodeNotCaller       Code = "not-caller"
	CodeNoKey           Code = "idempotency-key-required"
	CodeOtherBody       Code = "idempotency-key-reused"
	CodeOtherUse        Code = "reference-used"
	CodeInDoubt         Code = "outcome-unknown"
	CodeCallRefused     Code = "call-refused"
	CodeCallConflict    Code = "call-conflict"
	CodeCallNotFound    Code = "call-not-found"
	CodeCallUnavailable Code = "provider-unavailable"
	CodeCallFailed      Code = "provider-failed"
	CodeCallsBusy       Code = "calls-busy"
)

type kind struct {
	status int
	title  string
	retry  bool // the same request may succeed later
}

// kinds is the table of all refusals.
var kinds = map[Code]kind{
	CodeInvalidEvent:    {400, "The request is not a valid CloudEvent", false},
	CodeTooDeep:         {400, "The JSON is nested too deep", false},
	CodeUnauthenticated: {401, "No system of this site has this token", false},
	CodeNotPublisher:    {403, "This system may not publish events of this contract", false},
	CodeNotFound:        {404, "There is nothing at this address", false},
	CodeMethod:          {405, "This address does not take this method", false},
	CodeConflict:        {409, "An event with this source and id has other content", false},
	CodeRetired:         {410, "The contract version is retired", false},
	CodeTooLarge:        {413, "The request is too large", false},
	CodeMediaType:       {415, "The content type or encoding is not taken here", false},
	CodeUnknownContract: {422, "The policy has no such contract version", false},
	CodeInvalidData:     {422, "The data does not satisfy the contract", false},
	CodeRateLimited:     {429, "The system sends faster than its limit", true},
	CodeInternal:        {500, "The agent failed", true},
	CodeUnavailable:     {503, "The agent could not take the events now", true},
	CodeNotReady:        {503, "The agent holds no policy yet", true},
	CodeTokensUnread:    {503, "The agent cannot read its systems' tokens now", true},
	CodeInvalidRequest:  {400, "The request cannot be read", false},
	CodeReference:       {409, "The reference was given another count of numbers", false},
	CodeNoNumbers:       {503, "There are no numbers to give now", true},
	CodeNotCaller:       {403, "This system may not call this carrier or tax engine", false},
	CodeNoKey:           {400, "The call needs an Idempotency-Key", false},
	CodeOtherBody:       {422, "The Idempotency-Key came before with another request", false},
	CodeOtherUse:        {409, "The reference was used for something else", false},
	CodeInDoubt:         {503, "Whether it was done is not known yet", true},
	CodeCallRefused:     {422, "The carrier or tax engine does not do this", false},
	CodeCallConflict:    {409, "It contradicts what was done before", false},
	CodeCallNotFound:    {404, "The carrier or tax engine knows nothing of it", false},
	CodeCallUnavailable: {503, "The carrier or tax engine cannot be reached now; nothing was done", true},
	CodeCallFailed:      {502, "The carrier or tax engine failed", true},
	CodeCallsBusy:       {503, "No call can be made now; nothing was done", true},
	CodeQueueFull:       {507, "The agent's journal is full", true},
}

// Problem is a refusal, on the wire an RFC 9457 problem document. Nothing of a refused
// request was submitted, but see CodeConflict in Service.submit.
type Problem struct {
	Type   string       `json:"type"`
	Title  string       `json:"title"`
	Status int          `json:"status"`
	Detail string       `json:"detail,omitempty"`
	Code   Code         `json:"code"`
	Errors []FieldError `json:"errors,omitempty"`

	Call    string `json:"call,omitempty"`    // to a carrier or tax engine, that it is about
	Failure any    `json:"failure,omitempty"` // what the carrier or tax engine said

	retryAfter int // seconds; 0: not said
	event      int // of a batch, from 1; 0: not about one of them
	cause      error
}

// FieldError is one thing wrong at one place. The pointer is a JSON pointer into the
// event as the CloudEvents JSON format writes it, or into the array of a batch.
type FieldError struct {
	Pointer string `json:"pointer"`
	Detail  string `json:"detail"`
	Rule    string `json:"rule,omitempty"`
}

func problem(code Code, format string, args ...any) *Problem {
	k := kinds[code]
	return &Problem{
		Type: ProblemBase + string(code), Title: k.title, Status: k.status, Code: code,
		Detail: fmt.Sprintf(format, args...),
	}
}

// at adds one place.
func (p *Problem) at(pointer, rule, detail string) *Problem {
	p.Errors = append(p.Errors, FieldError{Pointer: pointer, Rule: rule, Detail: detail})
	return p
}

// within moves the places of an event's problem to its index in a batch.
func (p *Problem) within(index int) *Problem {
	p.event = index + 1
	prefix := "/" + strconv.Itoa(index)
	if len(p.Errors) == 0 {
		p.Errors = []FieldError{{Detail: p.Detail}}
	}
	for i := range p.Errors {
		p.Errors[i].Pointer = prefix + p.Errors[i].Pointer
	}
	return p
}

func (p *Problem) because(err error) *Problem {
	p.cause = err
	return p
}

func (p *Problem) Error() string {
	text := string(p.Code) + ": " + p.Title
	if p.Detail != "" {
		text += ": " + p.Detail
	}
	for i, e := range p.Errors {
		if i == 3 {
			return text + fmt.Sprintf("; and %d more", len(p.Errors)-i)
		}
		text += fmt.Sprintf("; %s: %s", e.Pointer, e.Detail)
	}
	return text
}

func (p *Problem) Unwrap() error { return p.cause }

// Permanent says that the same events would be refused again: a driver sets them aside
// where it would otherwise try later.
func (p *Problem) Permanent() bool { return !kinds[p.Code].retry }

// EventIndex is the event of a batch that is at fault, -1 if it is not one of them.
func (p *Problem) EventIndex() int { return p.event - 1 }

// codeOfStatus names what the HTTP machinery itself refuses.
func codeOfStatus(status int) Code {
	switch status {
	case http.StatusNotFound:
		return CodeNotFound
	case http.StatusMethodNotAllowed:
		return CodeMethod
	case http.StatusRequestEntityTooLarge:
		return CodeTooLarge
	case http.StatusUnsupportedMediaType:
		return CodeMediaType
	}
	if status >= 400 && status < 500 {
		return CodeInvalidEvent
	}
	return CodeInternal
}
