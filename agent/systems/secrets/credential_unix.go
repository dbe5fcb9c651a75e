//go:build !windows

package secrets

import "fmt"

// openCredential reads what systemd has put there for this service, by LoadCredential= or
// LoadCredentialEncrypted= in its unit.
func (s *Store) openCredential(name string) ([]byte, error) {
	dir, ok := s.cfg.LookupEnv("CREDENTIALS_DIRECTORY")
	if !ok || dir == "" {
		return nil, fmt.Errorf("%w: this program was given no credentials: put LoadCredential=%s:FILE into its unit", ErrNotFound, name)
	}
	return content("cred:"+name, dir, name)
}
