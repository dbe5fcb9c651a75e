package secrets

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/windows"
)

// openCredential opens NAME.dpapi in the secrets directory, which was sealed by CryptProtectData
// for this machine or for the user of the service.
func (s *Store) openCredential(name string) ([]byte, error) {
	ref := "cred:" + name
	if s.cfg.Directory == "" {
		return nil, fmt.Errorf("secret %s: this agent has no secrets directory", ref)
	}
	sealed, err := content(ref, s.cfg.Directory, name+".dpapi")
	if err != nil {
		return nil, err
	}
	if len(sealed) == 0 {
		return nil, fmt.Errorf("secret %s is empty", ref)
	}
	in := windows.DataBlob{Size: uint32(len(sealed)), Data: &sealed[0]}
	var out windows.DataBlob
	if err := windows.CryptUnprotectData(&in, nil, nil, 0, nil, windows.CRYPTPROTECT_UI_FORBIDDEN, &out); err != nil {
		return nil, fmt.Errorf("secret %s: the system does not open it, as it was sealed on another machine or for another user: %w", ref, err)
	}
	defer windows.LocalFree(windows.Handle(unsafe.Pointer(out.Data))) //nolint:errcheck // it is freed with the process at the latest
	return append([]byte(nil), unsafe.Slice(out.Data, out.Size)...), nil
}
