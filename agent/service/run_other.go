//go:build !windows

package service

import "context"

// Run does the work until ctx ends. Only the service manager of Windows wants more than that.
func Run(ctx context.Context, work func(context.Context) error) error { return work(ctx) }
