#!/bin/sh
# The slower checks: all that make generate makes is what its sources say, gosec finds nothing, no known
# vulnerability is reached, the benchmark, which is a module of its own, builds and measures,
# the judge of recorded operations, which is another, finds what it must,
# and every fuzz target runs for FUZZTIME.
set -eu
cd "$(dirname "$0")/.."
FUZZTIME="${FUZZTIME:-10s}"
TOOLS="$PWD/bin/tools"

(cd scripts/generate && go run . -check)

"$TOOLS/golangci-lint" run -c scripts/lint/security.yml ./...
GOOS=windows CGO_ENABLED=0 "$TOOLS/golangci-lint" run -c scripts/lint/security.yml ./agent/... ./controlplane/... ./protocol/... # the files of that system

# The database of known vulnerabilities is not part of any module: GOVULNDB says where one is.
if [ -n "${GOVULNDB:-}" ]; then
  (cd scripts/lint && CGO_ENABLED=0 go build -o "$TOOLS/govulncheck" golang.org/x/vuln/cmd/govulncheck)
  "$TOOLS/govulncheck" -db "$GOVULNDB" ./...
else
  echo "known vulnerabilities: not checked, GOVULNDB is not set to the address of a database, such as file:///srv/vulndb"
  test "${REQUIRE:-}" != all
fi

(cd scripts/bench && go vet ./... && go build -o /dev/null ./... && go test ./...)

# What judges recorded operations finds every mutation of a good record.
(cd scripts/linear && go vet ./... && go test ./...)

go run ./scripts/fuzz -each -for "$FUZZTIME"
