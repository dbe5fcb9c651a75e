package filedriver

// writable cannot be asked here without writing; what fails shows when a file is moved.
func writable(string) error { return nil }
