#!/bin/sh
# The slower checks: generated code is what its sources say, the benchmark, which is a module
# of its own, builds and measures, and every fuzz target runs for FUZZTIME.
set -eu
cd "$(dirname "$0")/.."
FUZZTIME="${FUZZTIME:-10s}"
(cd scripts/generate && go run . -check)
(cd scripts/bench && go vet ./... && go build -o /dev/null ./... && go test ./...)
grep -rl --include='*_test.go' '^func Fuzz' agent controlplane protocol deploy | xargs -n1 dirname | sort -u | while read -r dir; do
  grep -ho '^func Fuzz[A-Za-z0-9_]*' "$dir"/*_test.go | sed 's/^func //' | while read -r target; do
    echo "$dir $target"
    go test "./$dir" -run '^$' -fuzz "^$target\$" -fuzztime "$FUZZTIME" -fuzzminimizetime 1x
  done
done
