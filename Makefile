# sluice: what you can make here. `make` alone lists it.

GO         ?= go
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOTESTSUM   = gotest.tools/gotestsum@v1.13.0
TESTFLAGS  ?= -race -timeout 20m

.PHONY: help build demo test test-quick lint darwin fuzz soak ugly autobahn clients browser check-deploy openapi bench bench-readme kafka-up kafka-down clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# Benches and `sluice version` tell the commit, whatever GOFLAGS says of it.
build: ## dist/sluice
	@mkdir -p dist
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=auto -o dist/sluice ./cmd/sluice

demo: ## the product at work, on your terminal
	$(GO) run ./cmd/sluice demo

test: lint ## everything, on the embedded log and on a real Kafka broker, which it installs and starts
	@mkdir -p dist
	deploy/test $(TESTFLAGS)

test-quick: ## without the race detector, and without Kafka and PostgreSQL where they aren't there (says what it leaves out)
	SLUICE_TEST_NO_KAFKA=1 SLUICE_TEST_NO_POSTGRES=1 $(GO) test ./...

lint: ## gofmt, go vet, staticcheck
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "not gofmt-ed:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...

# Apart from lint, since the standard library and all else have to be compiled anew for it.
darwin: ## whether all of it builds for macOS, tests too, where nobody runs them
	GOOS=darwin GOARCH=arm64 $(GO) vet ./...
	GOOS=darwin GOARCH=amd64 $(GO) build ./...

FUZZTIME ?= 20s
fuzz: ## each fuzzer for FUZZTIME
	@for pkg in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
	    echo "$$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
	  done; \
	done

SLUICE_SOAK ?= 30m
soak: ## six processes and a broker under load, broken at random for SLUICE_SOAK=30m by SLUICE_SEED=n; told in dist/soak-…
	SLUICE_SOAK=$(SLUICE_SOAK) $(GO) test -count 1 -timeout 0 -v -run '^TestNemesis$$' ./loadtest

SLUICE_UGLY ?= 100000
ugly: ## SLUICE_UGLY=100000 connections that leave in every way that is no good, and what is left of them
	SLUICE_UGLY=$(SLUICE_UGLY) $(GO) test -count 1 -timeout 0 -v -run '^TestUgly$$' ./loadtest

autobahn: ## Autobahn's cases against our WebSocket framing; needs Python 2.7, and installs the suite
	loadtest/autobahn/run

browser: ## Chromium's EventSource against our streams, over kills; needs Node 20 with npm, and installs the browser
	loadtest/browser/run

check-deploy: ## what deploy/ holds, against the schemas of those who read it; needs Python 3
	deploy/check

openapi: ## schemathesis' calls from the OpenAPI documents, whose answers must be as they say; needs Python 3
	deploy/openapi

clients: ## conversations with other people's WebSocket clients; installs websocat, k6 and Chromium
	loadtest/clients/run

bench: build ## floor and product side by side, a quarter of an hour; `dist/sluice bench --help` names rows that take longer
	dist/sluice bench

bench-readme: build ## the same, its tables into README.md and its rounds into docs/bench.json: a quarter of an hour, on a machine that does nothing else
	dist/sluice bench --json dist/bench.json
	cp dist/bench.json docs/bench.json
	dist/sluice report --markdown docs/bench.json >dist/bench.md
	sed -i -e '/^<!-- bench -->$$/,/^<!-- end of bench -->$$/{//!d}' -e '/^<!-- bench -->$$/r dist/bench.md' README.md

kafka-up: ## a real broker on this machine, installed from Maven Central
	deploy/kafka/up

kafka-down: ## stop it
	deploy/kafka/down

clean: ## what was built
	rm -rf dist
