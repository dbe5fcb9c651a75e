package taxtest

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/sdktest"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
)

var operationNames = []string{tax.OpEstimate, tax.OpFinalise, tax.OpAdjust, tax.OpVoid, tax.OpGetByReference, tax.OpValidateTaxID}

// describe: a host can go by what is described. Before the plugin is configured that is at
// least its name and how it is configured.
func describe(t testing.TB, s *suite) {
	sdktest.CheckDescription(t, &s.d.Description, operationNames)
	if s.bare.Name != s.d.Name || s.bare.Version != s.d.Version {
		t.Errorf("describe: before configure it is %s %s, and then %s %s", s.bare.Name, s.bare.Version, s.d.Name, s.d.Version)
	}
	same(t, "describe, the settings before and after configure", s.bare.Config, s.d.Config)
	again, err := s.e.Describe(t.Context())
	if err != nil {
		t.Fatalf("describe, a second time: %v", err)
	}
	same(t, "describe, a second time", again, s.d)
	for _, c := range s.d.Covers {
		if len(c.Country) != 2 || c.Tax == "" {
			t.Errorf("describe: it covers %q with the tax %q", c.Country, c.Tax)
		}
	}
	if s.can(tax.OpEstimate) && len(s.d.Covers) == 0 {
		t.Error("describe: it calculates, and covers nothing")
	}
	if _, buys := sdktest.Can(&s.d.Description, tax.OpFinalise); buys && !s.remembers() {
		t.Error("describe: what it finalises cannot be looked up by its reference")
	}
}

func configure(t testing.TB, s *suite) {
	sdktest.CheckConfigure(t, &s.d.Description, s.settings, func(ctx context.Context, settings sdk.Settings) error {
		e, _ := s.New(t)
		return Pipe(t, e).Configure(ctx, settings)
	})
}

func operations(t testing.TB, s *suite) {
	sdktest.CheckOperations(t, &s.d.Description, map[string]func(context.Context) error{
		tax.OpEstimate: func(ctx context.Context) error { _, err := s.e.Estimate(ctx, document(s.Knows)); return err },
		tax.OpFinalise: func(ctx context.Context) error { _, err := s.e.Finalise(ctx, document(s.Knows)); return err },
		tax.OpAdjust:   func(ctx context.Context) error { _, err := s.e.Adjust(ctx, document(s.Knows)); return err },
		tax.OpVoid: func(ctx context.Context) error {
			_, err := s.e.Void(ctx, &tax.VoidRequest{Reference: reference()})
			return err
		},
		tax.OpGetByReference: func(ctx context.Context) error { _, err := s.e.GetByReference(ctx, reference()); return err },
		tax.OpValidateTaxID:  func(ctx context.Context) error { _, err := s.e.ValidateTaxID(ctx, &s.Valid); return err },
	})
}

// estimate: what is known is calculated, and adds up.
func estimate(t testing.TB, s *suite) {
	if !s.can(tax.OpEstimate) {
		return
	}
	d := document(s.Knows)
	got, err := s.e.Estimate(t.Context(), d)
	if err != nil {
		t.Fatalf("estimate: %v", err)
	}
	adds(t, "estimate", d, got)
	if got.Status != tax.Calculated {
		t.Errorf("estimate: what the engine knows is %q: %s", got.Status, got.Reason)
	}
	if !got.Final.IsZero() {
		t.Errorf("estimate: it is final since %s", got.Final)
	}
	for i := range d.Lines {
		d.Lines[i].Included = !d.Lines[i].Included
	}
	if got, err = s.e.Estimate(t.Context(), d); err != nil {
		t.Fatalf("estimate with taxes included: %v", err)
	}
	adds(t, "estimate with taxes included", d, got)
}

// estimateReturn: amounts of a return are positive.
func estimateReturn(t testing.TB, s *suite) {
	if !s.can(tax.OpEstimate) {
		return
	}
	d := document(s.Knows)
	d.Kind, d.Original = tax.Return, reference()
	got, err := s.e.Estimate(t.Context(), d)
	if err != nil {
		t.Fatalf("estimate of a return: %v", err)
	}
	adds(t, "estimate of a return", d, got)
}

// notCalculated: what is not known is neither an error nor zero.
func notCalculated(t testing.TB, s *suite) {
	if !s.can(tax.OpEstimate) {
		return
	}
	d := document(s.Unknown)
	got, err := s.e.Estimate(t.Context(), d)
	if err != nil {
		t.Fatalf("estimate of what is not known: %v", err)
	}
	adds(t, "estimate of what is not known", d, got)
	if got.Status != tax.NotCalculated {
		t.Errorf("estimate of what is not known: it is %q, with tax %s", got.Status, text(got.Tax))
	}
}

// refuses: a document that cannot be one is refused, at its field.
func refuses(t testing.TB, s *suite) {
	for _, c := range []struct {
		what, field string
		change      func(*tax.Document)
	}{
		{"no line", "lines", func(d *tax.Document) { d.Lines = nil }},
		{"no currency", "currency", func(d *tax.Document) { d.Currency = "" }},
		{"a kind that nobody knows", "kind", func(d *tax.Document) { d.Kind = "barter" }},
		{"a date that is none", "date", func(d *tax.Document) { d.Date = "30.11.2026" }},
	} {
		d := document(s.Knows)
		c.change(d)
		if s.can(tax.OpEstimate) {
			_, err := s.e.Estimate(t.Context(), d)
			sdktest.FailsAt(t, "estimate with "+c.what, err, c.field)
		}
		if s.can(tax.OpFinalise) {
			_, err := s.e.Finalise(t.Context(), d)
			sdktest.FailsAt(t, "finalise with "+c.what, err, c.field)
		}
	}
	if s.can(tax.OpFinalise) {
		d := document(s.Knows)
		d.Reference = ""
		_, err := s.e.Finalise(t.Context(), d)
		sdktest.FailsAt(t, "finalise with no reference", err, "reference")
	}
}

// leavesNothing: an estimate cannot be found.
func leavesNothing(t testing.TB, s *suite) {
	if !s.can(tax.OpEstimate) || !s.remembers() {
		return
	}
	d := document(s.Knows)
	if _, err := s.e.Estimate(t.Context(), d); err != nil {
		t.Fatalf("estimate: %v", err)
	}
	_, err := s.e.GetByReference(t.Context(), d.Reference)
	sdktest.Fails(t, "lookup of an estimate", err, sdk.NotFound)
}

// atOnce: what comes at the same time is not mixed up.
func atOnce(t testing.TB, s *suite) {
	do := s.e.Finalise
	if !s.can(tax.OpFinalise) {
		do = s.e.Estimate
	}
	const each = 4
	asked := make([]*tax.Document, each)
	for i := range asked {
		if asked[i] = document(s.Knows); i%2 == 1 {
			asked[i] = other(asked[i])
		}
	}
	got := make([]*tax.Result, 2*each)
	errs := make([]error, 2*each)
	var all sync.WaitGroup
	for i := range got {
		all.Go(func() { got[i], errs[i] = do(t.Context(), asked[i/2]) })
	}
	all.Wait()
	for i, err := range errs {
		if err != nil {
			t.Fatalf("%d at once: %v", len(got), err)
		}
		adds(t, "at once", asked[i/2], got[i])
		if i%2 == 1 {
			s.sameResult(t, "the same twice at once", got[i], got[i-1])
		}
	}
}

// sameResult wants the same answer; of an engine that only calculates, calculated at another
// time.
func (s *suite) sameResult(t testing.TB, what string, got, want *tax.Result) {
	t.Helper()
	if !s.remembers() {
		a, b := *got, *want
		a.Final, b.Final = want.Final, want.Final
		got, want = &a, &b
	}
	same(t, what, got, want)
}

// brokenOff: a call whose caller is gone says whether it was done, and can be made again.
func brokenOff(t testing.TB, s *suite) {
	if !s.can(tax.OpFinalise) {
		return
	}
	d := document(s.Knows)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.direct.Finalise(gone, d)
	if err != nil {
		sdktest.Fails(t, "finalise, broken off", err, sdk.Unavailable, sdk.UnknownOutcome)
		if sdk.ClassOf(err) == sdk.Unavailable && s.remembers() {
			_, err := s.e.GetByReference(t.Context(), d.Reference)
			sdktest.Fails(t, "lookup of what was surely not done", err, sdk.NotFound)
		}
	}
	got, err := s.e.Finalise(t.Context(), d)
	if err != nil {
		t.Fatalf("finalise, after it was broken off: %v", err)
	}
	adds(t, "finalise, after it was broken off", d, got)
}

// finalise: what is owed for good says since when, and is what was estimated.
func finalise(t testing.TB, s *suite) {
	if !s.can(tax.OpFinalise) {
		return
	}
	d, got := s.finalised(t)
	adds(t, "finalise", d, got)
	if got.Final.IsZero() {
		t.Error("finalise: it does not say when")
	}
	if !s.can(tax.OpEstimate) {
		return
	}
	estimated, err := s.e.Estimate(t.Context(), d)
	if err != nil {
		t.Fatalf("estimate: %v", err)
	}
	if !estimated.Provisional && text(estimated.Tax) != text(got.Tax) {
		t.Errorf("finalise: tax %s, estimated was %s", text(got.Tax), text(estimated.Tax))
	}
}

// finaliseTwice: the same again is the same answer, with other contents it is refused.
func finaliseTwice(t testing.TB, s *suite) {
	if !s.can(tax.OpFinalise) {
		return
	}
	d, first := s.finalised(t)
	again, err := s.e.Finalise(t.Context(), d)
	if err != nil {
		t.Fatalf("finalise, the same again: %v", err)
	}
	s.sameResult(t, "finalise, the same again", again, first)
	if s.remembers() {
		_, err = s.e.Finalise(t.Context(), other(d))
		sdktest.Fails(t, "finalise, other contents under the same reference", err, sdk.Duplicate)
	}
}

// finaliseReturn: what is owed for a return is a credit.
func finaliseReturn(t testing.TB, s *suite) {
	if !s.can(tax.OpFinalise) {
		return
	}
	sold, _ := s.finalised(t)
	d := document(s.Knows)
	d.Kind, d.Original = tax.Return, sold.Reference
	got, err := s.e.Finalise(t.Context(), d)
	if err != nil {
		t.Fatalf("finalise a return: %v", err)
	}
	adds(t, "finalise a return", d, got)
	if got.Final.IsZero() {
		t.Error("finalise a return: it does not say when")
	}
}

// lookup: nothing is found before it was finalised, and after that the very thing.
func lookup(t testing.TB, s *suite) {
	if !s.remembers() {
		return
	}
	_, err := s.e.GetByReference(t.Context(), reference())
	sdktest.Fails(t, "lookup of what was never finalised", err, sdk.NotFound)
	if !s.can(tax.OpFinalise) {
		return
	}
	d, want := s.finalised(t)
	got, err := s.e.GetByReference(t.Context(), d.Reference)
	if err != nil {
		t.Fatalf("lookup: %v", err)
	}
	same(t, "lookup of what was finalised", got, want)
}

// adjust: what was finalised is replaced, and nothing else can be.
func adjust(t testing.TB, s *suite) {
	if !s.can(tax.OpAdjust) || !s.can(tax.OpFinalise) {
		return
	}
	d, before := s.finalised(t)
	changed := other(d)
	got, err := s.e.Adjust(t.Context(), changed)
	if err != nil {
		t.Fatalf("adjust: %v", err)
	}
	adds(t, "adjust", changed, got)
	if got.Net.Equal(before.Net) {
		t.Errorf("adjust: net is %s as before", got.Net)
	}
	again, err := s.e.Adjust(t.Context(), changed)
	if err != nil {
		t.Fatalf("adjust, the same again: %v", err)
	}
	s.sameResult(t, "adjust, the same again", again, got)
	if s.remembers() {
		found, err := s.e.GetByReference(t.Context(), d.Reference)
		if err != nil {
			t.Fatalf("lookup of what was adjusted: %v", err)
		}
		same(t, "lookup of what was adjusted", found, got)
		_, err = s.e.Adjust(t.Context(), document(s.Knows))
		sdktest.Fails(t, "adjust what was never finalised", err, sdk.NotFound)
	}
}

// void: twice is once, a lookup tells of it, and it is not undone.
func void(t testing.TB, s *suite) {
	if !s.can(tax.OpVoid) {
		return
	}
	_, err := s.e.Void(t.Context(), &tax.VoidRequest{Reference: reference()})
	sdktest.Fails(t, "void of what was never finalised", err, sdk.NotFound)
	if !s.can(tax.OpFinalise) {
		return
	}
	d, _ := s.finalised(t)
	for _, what := range []string{"void", "void, a second time"} {
		s.voids(t, what, d.Reference)
	}
	if !s.remembers() {
		return
	}
	s.isVoided(t, "lookup of what was voided", d.Reference)
	_, err = s.e.Finalise(t.Context(), d)
	sdktest.Fails(t, "finalise what was voided", err, sdk.Conflict)
}

func (s *suite) voids(t testing.TB, what, reference string) {
	t.Helper()
	v, err := s.e.Void(t.Context(), &tax.VoidRequest{Reference: reference, Reason: "test"})
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if v.Reference != reference {
		t.Errorf("%s: reference %q, want %q", what, v.Reference, reference)
	}
}

func (s *suite) isVoided(t testing.TB, what, reference string) {
	t.Helper()
	found, err := s.e.GetByReference(t.Context(), reference)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if !found.Voided {
		t.Errorf("%s: it is not voided", what)
	}
}

// reopen: what was finalised, adjusted and voided stays so when the plugin is started anew, and
// repeating it is the same thing.
func reopen(t testing.TB, s *suite) {
	if !s.can(tax.OpFinalise) {
		return
	}
	d, want := s.finalised(t)
	var adjusted, voided *tax.Document
	var replaced *tax.Result
	if s.can(tax.OpAdjust) {
		adjusted, _ = s.finalised(t)
		adjusted = other(adjusted)
		var err error
		if replaced, err = s.e.Adjust(t.Context(), adjusted); err != nil {
			t.Fatalf("adjust: %v", err)
		}
	}
	if s.can(tax.OpVoid) {
		voided, _ = s.finalised(t)
		s.voids(t, "void", voided.Reference)
	}
	if !s.reopen(t) {
		return
	}
	again, err := s.e.Finalise(t.Context(), d)
	if err != nil {
		t.Fatalf("finalise, opened again, the same again: %v", err)
	}
	s.sameResult(t, "finalise, opened again, the same again", again, want)
	if s.remembers() {
		found, err := s.e.GetByReference(t.Context(), d.Reference)
		if err != nil {
			t.Fatalf("lookup, opened again: %v", err)
		}
		same(t, "lookup, opened again", found, want)
	}
	if adjusted != nil {
		again, err := s.e.Adjust(t.Context(), adjusted)
		if err != nil {
			t.Fatalf("adjust, opened again, the same again: %v", err)
		}
		s.sameResult(t, "adjust, opened again, the same again", again, replaced)
	}
	if voided == nil {
		return
	}
	if s.remembers() {
		s.isVoided(t, "lookup, opened again, of what was voided", voided.Reference)
	}
	s.voids(t, "void, opened again, a second time", voided.Reference)
}

// taxID: a number that cannot be one is invalid, and the advice says how deep the look was.
func taxID(t testing.TB, s *suite) {
	if !s.can(tax.OpValidateTaxID) {
		return
	}
	for _, c := range []struct {
		id   sdk.TaxID
		want []string
	}{{s.Valid, []string{tax.IDValid, tax.IDUnknown}}, {s.Invalid, []string{tax.IDInvalid}}} {
		if c.id.Number == "" {
			t.Fatal("the engine looks at tax numbers: the test's Config needs Valid and Invalid")
		}
		got, err := s.e.ValidateTaxID(t.Context(), &c.id)
		if err != nil {
			t.Fatalf("tax id %s: %v", c.id.Number, err)
		}
		if !slices.Contains(c.want, got.Status) {
			t.Errorf("tax id %s: %q, want %v", c.id.Number, got.Status, c.want)
		}
		if !slices.Contains([]string{"format", "checksum", "registry"}, got.Checked) {
			t.Errorf("tax id %s: nobody knows a check by %q", c.id.Number, got.Checked)
		}
		if got.ID.Country != c.id.Country || got.ID.Number == "" {
			t.Errorf("tax id %s: the answer is of %+v", c.id.Number, got.ID)
		}
	}
}
