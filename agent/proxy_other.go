//go:build !windows

package agent

import "net/url"

// systemProxy knows no proxy: only Windows keeps one for all programs.
func systemProxy(*url.URL) (*url.URL, error) { return nil, nil }
