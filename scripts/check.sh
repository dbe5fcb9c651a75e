#!/bin/sh
# The slower checks: generated code is what its sources say, gosec finds nothing, no known
# vulnerability is reached, the benchmark, which is a module of its own, builds and measures,
# the judge of recorded operations, which is another, finds what it must,
# and every fuzz target runs for FUZZTIME.
set -eu
cd "$(dirname "$0")/.."
FUZZTIME="${FUZZTIME:-10s}"
TOOLS="$PWD/bin/tools"

(cd scripts/generate && go run . -check)

"$TOOLS/golangci-lint" run -c scripts/lint/security.yml ./...

# The database of known vulnerabilities is not part of any module: GOVULNDB says where one is.
if [ -n "${GOVULNDB:-}" ]; then
  (cd scripts/lint && CGO_ENABLED=0 go build -o "$TOOLS/govulncheck" golang.org/x/vuln/cmd/govulncheck)
  "$TOOLS/govulncheck" -db "$GOVULNDB" ./...
else
  echo "known vulnerabilities: not checked, GOVULNDB is not set to the address of a database, such as file:///srv/vulndb"
fi

(cd scripts/bench && go vet ./... && go build -o /dev/null ./... && go test ./...)

# What judges recorded operations finds every mutation of a good record.
(cd scripts/linear && go vet ./... && go test ./...)

grep -rl --include='*_test.go' '^func Fuzz' agent controlplane protocol deploy | xargs -n1 dirname | sort -u | while read -r dir; do
  grep -ho '^func Fuzz[A-Za-z0-9_]*' "$dir"/*_test.go | sed 's/^func //' | while read -r target; do
    echo "$dir $target"
    go test "./$dir" -run '^$' -fuzz "^$target\$" -fuzztime "$FUZZTIME" -fuzzminimizetime 1x
  done
done
