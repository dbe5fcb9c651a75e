package calls

import (
	"errors"

	bolt "go.etcd.io/bbolt"

	"github.com/crossdock/crossdock/plugins/sdk/carrier"
)

// gaveBack says that a call is the void of a purchase, and done.
func (r *record) gaveBack() bool {
	return r.Kind == carrier.Kind && r.Operation == carrier.OpVoid && r.State == Done
}

// markVoided notes at a purchase that it was given back, so that its label is not handed out
// again.
func markVoided(tx *bolt.Tx, void *record) error {
	id := tx.Bucket(bucketRefs).Get(refName(void.Plugin, void.Reference))
	if id == nil {
		return nil // bought elsewhere, or forgotten
	}
	bought, err := get(tx, string(id))
	if errors.Is(err, errDamaged) || err == nil && bought.State != Done {
		return nil // its label is not handed out either
	}
	if err != nil {
		return err
	}
	bought.Voided = void.ID
	return put(tx, bucketCalls, []byte(bought.ID), bought)
}

// given finds what came of giving back the same purchase before, under another key; nil: it
// was not given back.
func (s *Service) given(a *asked) (*record, error) {
	was, err := s.store.find(a.System, a.Key, a.Plugin, a.reference)
	bought := was.byRef
	if err != nil || bought == nil || bought.Voided == "" || bought.System != a.System {
		return nil, err
	}
	void, err := s.store.read(bought.Voided)
	if errors.Is(err, errDamaged) {
		s.tellDamaged([]string{bought.Voided})
		return nil, nil // giving it back is harmless to repeat
	}
	if err != nil || void == nil || void.Hash != a.hash {
		return nil, err
	}
	return void, nil
}
