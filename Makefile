# Crossdock: what a person does with this tree. `make help` lists it.

GO      ?= go
BIN     := bin
TOOLS   := $(CURDIR)/$(BIN)/tools
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.stamp=crossdock-release:$(VERSION):of-this-program
# The race detector needs a C compiler; without one the tests run, and say so, unless REQUIRE=all.
RACE    ?= $(if $(shell command -v $(shell $(GO) env CC)),-race)
# make run: UNTIL=done ends with the reconciliation, OUTAGE=site:duration cuts a line, ORDERS=n takes the first n,
# NODES=3 has three nodes of the control plane, KILL=leader or node-2 kills one in the middle.
UNTIL   ?=
OUTAGE  ?=
ORDERS  ?=
NODES   ?=
KILL    ?=
# make chaos: SEED repeats a run, RUNS is how many rounds, FOR=10m is one long round instead, FAULT=transfer,kill-leader leaves
# only these faults (a wrong name lists them), FAULT=each RUNS=45 has each of them in turn, CONTROL=heartbeat takes that guard
# away until states differ, CONTROL=guard does the same with it. Each run adds a line to deploy/systemtest/ledger.jsonl; commit
# first, a changed tree does not count.
SEED    ?=
RUNS    ?=
FOR     ?=
FAULT   ?=
CONTROL ?=
# make bench: ROUNDS of every arm instead of 5, ONLY=intake,endtoend takes some sections, BENCH='-backlog 5000000' gives further
# flags; scripts/bench/README.md says what there is.
ROUNDS  ?=
ONLY    ?=
BENCH   ?=
# make fuzz: FOR instead of 10m, TARGET=protocol/block.FuzzOpen,... instead of the target that had the least time so far. Each
# run adds a line to scripts/fuzz/record.jsonl and keeps inputs in testdata/fuzz; commit first, a changed tree does not count.
TARGET  ?=
# make release: RELEASE_KEYS=RW...,RW... are the public keys by which agents judge upgrades; REQUIRE=all fails where a tool is
# missing; deploy/packages/README.md says what there is.
RELEASE_KEYS ?=

.DEFAULT_GOAL := help
.PHONY: help build run test lint vet-windows chaos chaos-ledger drill bench generate check fuzz fuzz-record release clean

help: ## list the verbs
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

build: need-go ## the programs, the plugins that the demo runs, and the demo into bin/
	@mkdir -p $(BIN)
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/ ./controlplane/cmd/crossdock ./agent/cmd/crossdock-agent ./deploy/demo/cmd/crossdock-demo \
	  ./plugins/carrier-zone ./plugins/tax-table

run: build ## the demo: a control plane, four agents, real orders (NODES=3 UNTIL=done OUTAGE=eu:20s KILL=leader ORDERS=100)
	@$(BIN)/crossdock-demo run --bin $(BIN) $(if $(NODES),--nodes $(NODES)) $(if $(UNTIL),--until $(UNTIL)) $(if $(OUTAGE),--outage $(OUTAGE)) \
	  $(if $(KILL),--kill $(KILL)) $(if $(ORDERS),--orders $(ORDERS))

test: need-go lint vet-windows ## everything that must hold: linters, layers, unit, fault and system tests with the race detector
	@test -n "$(RACE)" || { echo "race detector off: no C compiler; install gcc"; test "$(REQUIRE)" != all; }
	$(GO) mod verify
	$(if $(RACE),CGO_ENABLED=1) $(GO) test $(RACE) -count=1 -timeout 35m ./...
	cd scripts/release && $(GO) test -count=1 -timeout 10m ./...

lint: need-go $(TOOLS)/golangci-lint ## the linters
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "not gofmt-ed:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags chaos ./controlplane/... ./deploy/systemtest/...
	$(TOOLS)/golangci-lint run ./...
	cd scripts/bench && $(GO) vet ./... && $(TOOLS)/golangci-lint run ./...
	cd scripts/linear && $(GO) vet ./... && $(TOOLS)/golangci-lint run ./...
	cd scripts/release && $(GO) vet ./... && $(TOOLS)/golangci-lint run ./...

vet-windows: need-go ## programs and tests compile for Windows
	GOOS=windows CGO_ENABLED=0 $(GO) vet ./...
	GOOS=windows CGO_ENABLED=0 $(GO) test -c -o /dev/null ./...

chaos: need-go ## random faults over three nodes and agents, judged by history (SEED= RUNS= FOR=10m FAULT=transfer CONTROL=heartbeat)
	$(GO) run ./scripts/chaos $(if $(SEED),-seed $(SEED)) $(if $(RUNS),-runs $(RUNS)) $(if $(FOR),-for $(FOR)) $(if $(FAULT),-fault '$(FAULT)') \
	  $(if $(CONTROL),-control $(CONTROL))

chaos-ledger: need-go ## what all chaos runs so far come to, by kind of fault
	@$(GO) run ./scripts/chaos -sum

drill: need-go ## the drills behind deploy/runbooks, with their recovery points and times
	$(GO) test -count=1 -timeout 15m -run '^TestDrill' -v ./deploy/systemtest

bench: need-go ## speed as ratios, side by side with NATS JetStream and a raw file (ROUNDS= ONLY= BENCH=); tables in run/bench-DATE.md
	cd scripts/bench && $(GO) run . $(if $(ROUNDS),-rounds $(ROUNDS)) $(if $(ONLY),-only $(ONLY)) $(BENCH)

generate: need-go ## all that is made of the code: protobuf and OpenAPI code, configuration files, every page of reference
	cd scripts/generate && $(GO) run .

check: need-go $(TOOLS)/golangci-lint ## slower checks: generated code is current, gosec, govulncheck with GOVULNDB, the benchmark works, every fuzz target for FUZZTIME (10s)
	sh scripts/check.sh

fuzz: need-go ## one fuzz target for long, the one that had the least time so far (FOR=10m TARGET=protocol/block.FuzzOpen)
	nice -n 19 $(GO) run ./scripts/fuzz $(if $(FOR),-for $(FOR)) $(if $(TARGET),-target '$(TARGET)')

fuzz-record: need-go ## what every fuzz target had so far
	@$(GO) run ./scripts/fuzz -sum

release: need-go ## all that people install, into dist/, which is emptied, a signed manifest too: programs, bundles, deb, rpm, MSI, container, sums; its version is the tag, as by git tag v1.1.0 (RELEASE_KEYS= REQUIRE=all)
	rm -rf dist
	cd scripts/release && $(GO) run . -out ../../dist -version '$(VERSION)' $(if $(RELEASE_KEYS),-keys '$(RELEASE_KEYS)')

clean: ## remove what was built
	rm -rf $(BIN) dist run

.PHONY: need-go
need-go:
	@command -v $(GO) >/dev/null || { echo "Go 1.26 or newer is missing: install it from https://go.dev/dl"; exit 1; }

$(TOOLS)/golangci-lint: scripts/lint/go.mod scripts/lint/go.sum
	@mkdir -p $(TOOLS)
	cd scripts/lint && CGO_ENABLED=0 $(GO) build -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
