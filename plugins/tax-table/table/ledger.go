package table

import (
	"fmt"
	"sync"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/book"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
)

const bookName = "finalised"

// ledger is what was finalised. The latest record of a reference counts.
type ledger struct {
	book *book.Book

	mu    sync.Mutex // of index
	index map[string]*entry
}

// entry is what is in memory of a reference's latest record.
type entry struct {
	Sum      string // fingerprint of the document
	TaxPoint string // day whose rates were taken
	Voided   bool
	result   book.Place
}

func openLedger(c book.Config) (*ledger, error) {
	l := &ledger{index: map[string]*entry{}}
	b, err := book.Open(c, func(r *book.Record) error {
		d, err := decodeRecord(r)
		if err != nil {
			return err
		}
		return l.note(d, r.Place)
	})
	if err != nil {
		return nil, err
	}
	l.book = b
	return l, nil
}

func (l *ledger) note(r *record, at book.Place) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !r.Voided {
		l.index[r.Reference] = &entry{Sum: r.Sum, TaxPoint: r.TaxPoint, result: at}
		return nil
	}
	before := l.index[r.Reference]
	if before == nil {
		return fmt.Errorf("%q was voided and never finalised", r.Reference)
	}
	voided := *before
	voided.Voided = true
	l.index[r.Reference] = &voided
	return nil
}

// find gives the latest of a reference, or nil. An error says that nobody knows.
func (l *ledger) find(reference string) (*entry, error) {
	if err := l.book.Usable(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.index[reference], nil
}

// result reads what was answered.
func (l *ledger) result(of *entry) (*tax.Result, error) {
	r, err := l.book.Read(of.result)
	if err != nil {
		return nil, err
	}
	d, err := decodeRecord(r)
	if err == nil && d.Result == nil {
		err = fmt.Errorf("it holds no result")
	}
	if err != nil {
		return nil, sdk.Errorf(sdk.Internal, "a record has changed since it was read: %v", err).Suggest("restore the state directory from a backup")
	}
	result := d.Result.result()
	result.Voided = of.Voided
	return result, nil
}

// maxResult keeps a result small enough to be answered: its record is longer than its message.
const maxResult = sdk.MaxMessageSize - 1024

// append writes a record and returns when it is on disk.
func (l *ledger) append(r *record) error {
	text, err := encodeRecord(r)
	switch {
	case err != nil:
		return sdk.Errorf(sdk.Internal, "it cannot be written: %v", err)
	case len(text) > maxResult:
		return sdk.Errorf(sdk.Validation, "the result has %d bytes, at most %d can be answered and kept", len(text), maxResult).At("lines").
			Suggest("make more than one document of it")
	}
	at, err := l.book.Append(recordVersion, text)
	if err != nil {
		return err
	}
	return l.note(r, at)
}

func (l *ledger) close() error { return l.book.Close() }
