module github.com/crossdock/crossdock/scripts/linear

go 1.26.0

require (
	github.com/anishathalye/porcupine v1.3.1
	github.com/crossdock/crossdock v0.0.0
)

replace github.com/crossdock/crossdock => ../..
