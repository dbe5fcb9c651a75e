package pluginhost

import (
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/crossdock/crossdock/plugins/sdk"
)

// A plugin that reads its book may take longer than any call of it.
func TestAStartIsBoundByItsOwnLimit(t *testing.T) {
	s := spec("slow", "tame")
	s.CallTimeout = 1
	r := newRig(t, nil, s)
	r.awaitState("slow", StateRunning)
	wantClass(t, "rate", r.rate(t.Context(), "slow", ""), sdk.Unavailable)
}

func TestMoreCallsThanAreMadeAtOnce(t *testing.T) {
	r := newRig(t, func(c *Config) { c.MaxCalls = 1 }, spec("busy", "tame"))
	r.awaitState("busy", StateRunning)
	release := r.hold("busy")
	err := r.ship(t.Context(), "busy", "") // surely not done, although it buys
	wantClass(t, "the second", err, sdk.Unavailable)
	if err == nil || !strings.Contains(err.Error(), "1 calls in flight") {
		t.Errorf("it says %v", err)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
	if err := r.ship(t.Context(), "busy", ""); err != nil {
		t.Errorf("after it: %v", err)
	}
}

// A few bytes of an answer can be many of memory.
func TestAnAnswerOfTooManyElementsIsNotMade(t *testing.T) {
	r := newRig(t, nil, spec("bomb", "tame"))
	r.awaitState("bomb", StateRunning)
	err := r.rate(t.Context(), "bomb", "bomb")
	wantClass(t, "rate", err, sdk.Internal)
	if err == nil || !strings.Contains(err.Error(), errElements.Error()) {
		t.Errorf("it says %v", err)
	}
	if err := r.rate(t.Context(), "bomb", ""); err != nil {
		t.Errorf("after it: %v", err)
	}
}

func TestWhatAnAnswerWouldBecomeIsCounted(t *testing.T) {
	list := func(n int) *structpb.ListValue {
		l := &structpb.ListValue{}
		for range n {
			l.Values = append(l.Values, &structpb.Value{})
		}
		return l
	}
	deep := structpb.NewBoolValue(true)
	for range maxNesting {
		deep = structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{deep}})
	}
	codec := counting{encoding.GetCodecV2("proto")}
	for what, one := range map[string]struct {
		message proto.Message
		fault   string
	}{
		"as many as may be":   {list(maxElements), ""},
		"one more":            {list(maxElements + 1), errElements.Error()},
		"one more, deeper":    {&structpb.ListValue{Values: []*structpb.Value{structpb.NewListValue(list(maxElements - 1))}}, errElements.Error()},
		"a map":               {&structpb.Struct{Fields: map[string]*structpb.Value{"a": structpb.NewBoolValue(true)}}, ""},
		"nested without end ": {&structpb.ListValue{Values: []*structpb.Value{deep}}, "nested deeper"},
	} {
		text, err := proto.Marshal(one.message)
		if err != nil {
			t.Fatal(err)
		}
		fresh := one.message.ProtoReflect().New().Interface()
		err = codec.Unmarshal(mem.BufferSlice{mem.SliceBuffer(text)}, fresh)
		switch {
		case one.fault == "" && (err != nil || !proto.Equal(fresh, one.message)):
			t.Errorf("%s: %v", what, err)
		case one.fault != "" && (err == nil || !strings.Contains(err.Error(), one.fault)):
			t.Errorf("%s: %v, want %q", what, err, one.fault)
		}
		if one.fault == "" {
			if err := codec.Unmarshal(mem.BufferSlice{mem.SliceBuffer(text[:len(text)-1])}, fresh); err == nil {
				t.Errorf("%s: what is cut short is taken", what)
			}
		}
	}
}

// One that takes the place of another of its name would find its book in use.
func TestANameIsOfOneProcessAtATime(t *testing.T) {
	r := newRig(t, nil, spec("one", "tame"))
	r.awaitState("one", StateRunning)
	release := r.hold("one")
	r.want()
	await(t, "it is no longer wanted", func() bool { return len(r.Status()) == 0 })
	r.want(spec("one", "tame"), spec("two", "tame"))
	r.awaitState("two", StateRunning)
	if s := r.status("one"); s.Starts != 0 {
		t.Errorf("a second was started beside the first: %+v", s)
	}
	if err := release(); err != nil {
		t.Errorf("the call that was in flight: %v", err)
	}
	r.awaitState("one", StateRunning)
	if s := r.status("one"); s.Starts != 1 || s.Crashes != 0 {
		t.Errorf("the status is %+v", s)
	}
}

func TestAPluginWithoutAHashIsNotRun(t *testing.T) {
	s := spec("none", "tame")
	s.SHA256 = ""
	r := newRig(t, nil, s)
	if e := r.awaitReport(); !strings.Contains(e.Reason, "crossdock plugin verify") {
		t.Errorf("the reason is %q", e.Reason)
	}
	if got, err := filepath.Glob(filepath.Join(r.cfg.Dir, "*")); err != nil || len(got) != 1 {
		t.Errorf("it was copied: %v, %v", got, err)
	}
}
