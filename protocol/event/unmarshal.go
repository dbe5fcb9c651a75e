package event

import (
	"bytes"
	"encoding/base64"
	"slices"

	"github.com/crossdock/crossdock/protocol/strictjson"
)

// Parsed is an event as it was read, with its data decoded on the way.
type Parsed struct {
	*Event
	Value   any  // the data, as strictjson.Decode gives it
	Decoded bool // else Value means nothing: whoever decodes the data learns why it could not be
}

// Unmarshal reads the CloudEvents JSON format strictly: names in lower case, no member
// twice, no data beside data_base64, every attribute a string, number or boolean.
func Unmarshal(text []byte) (*Event, error) {
	e, err := UnmarshalShared(text)
	if err == nil && !e.Binary {
		e.Data = bytes.Clone(e.Data)
	}
	return e, err
}

// UnmarshalShared is Unmarshal of a text that nobody will change: the event's data may be a
// part of it.
func UnmarshalShared(text []byte) (*Event, error) {
	if len(text) <= MaxSize { // before it is copied
		r := strictjson.NewReader(text, MaxDepth+1) // the data stands one level down
		if p, ok := Read(r, false); ok && r.End() {
			return p.Event, nil
		}
	}
	return unmarshalInSteps(text)
}

// Read reads one event as Unmarshal does, of a text that may hold more, and decodes its
// data in the same pass if that is wanted. The event's data is a part of the text. It knows
// no reasons: what it does not take, Unmarshal may refuse or take. What it takes is an
// event once the reader has come to a good end.
func Read(r *strictjson.Reader, decode bool) (p Parsed, ok bool) {
	p.Event = &Event{}
	var seen core
	version := ""
	r.Next()
	from := r.Offset()
	for r.Open('{'); r.More('}'); {
		name := r.Name()
		if !seen.first(name) {
			return Parsed{}, false
		}
		switch name {
		case "data":
			p.read(r, decode)
			continue
		case "data_base64":
			data, err := base64.StdEncoding.DecodeString(r.Text())
			if err != nil {
				return Parsed{}, false
			}
			p.Data, p.Binary = data, true
			continue
		}
		value, ok := attribute(r)
		if !ok {
			return Parsed{}, false
		}
		if name == "specversion" {
			version = value
		} else if _, twice := p.Extensions[name]; twice || p.SetAttribute(name, value) != nil {
			return Parsed{}, false
		}
	}
	if r.Offset()-from > MaxSize || version != SpecVersion || seen.has("data") && seen.has("data_base64") || p.validateAttributes() != nil {
		return Parsed{}, false
	}
	return p, true
}

func (p *Parsed) read(r *strictjson.Reader, decode bool) {
	if !decode {
		p.Data = r.Skip()
		return
	}
	p.Value, p.Data = r.Value()
	p.Decoded = true
}

// attribute reads the string form that CloudEvents defines for an attribute's value.
func attribute(r *strictjson.Reader) (text string, ok bool) {
	switch r.Next() {
	case '"':
		return r.Text(), true
	case '{', '[', 'n':
		return "", false
	}
	return string(r.Skip()), true
}

// coreNames are the members that CloudEvents itself names.
var coreNames = [...]string{"id", "source", "type", "specversion", "data", "time", "datacontenttype", "subject", "dataschema", "data_base64"}

// core is which of them have been read.
type core uint16

// first notes a member, and says whether it is the first of a core name.
func (c *core) first(name string) bool {
	i := slices.Index(coreNames[:], name)
	if i < 0 {
		return true
	}
	before := *c
	*c |= 1 << i
	return *c != before
}

func (c *core) has(name string) bool { return *c&(1<<slices.Index(coreNames[:], name)) != 0 }
