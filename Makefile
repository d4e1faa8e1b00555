# Everything that a developer does. `make help` lists it.

GOLANGCI_LINT_VERSION = v2.6.2
GREMLINS_VERSION = v0.6.0
GOVULNCHECK_VERSION = v1.9.0
CACHE = $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/job-executor
LINT = $(CACHE)/golangci-lint-$(GOLANGCI_LINT_VERSION)/golangci-lint
CLUSTER = go run ./test/cluster
# The programs of the cluster are compiled once, for ko and for itself, with the
# same flags.
export CGO_ENABLED ?= 0

.DEFAULT_GOAL = help

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "%-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## Show a Keptn sequence in one process; ARGS="--config my/job/config.yaml" tries yours (--help tells more)
	@go run ./test/demo $(ARGS)

.PHONY: demo-cluster
demo-cluster: cluster-up ## Show it on a real one-node cluster, which it brings up
	$(CLUSTER) exec go run ./test/demo/cluster

.PHONY: test
test: unit lint simulate ## Unit tests, whole sequences in one process, lint, and a few simulations

# A seed's worth of faults: what fails is printed with its seed, and comes again
# with SEED=<seed> SEEDS=1; SIMULATION_LOG=1 tells what happened.
SEED ?= 1
SEEDS ?= 10
TASKS ?= 100

.PHONY: simulate
simulate: ## Simulate SEEDS=10 times about TASKS=100 tasks with faults, on a virtual clock
	SEED=$(SEED) SEEDS=$(SEEDS) TASKS=$(TASKS) go test -count=1 -timeout=2h -run 'TestEveryTask' -v ./test/simulation

.PHONY: unit
unit: ## Unit tests, and whole sequences in one process; RUN=TestName runs one
	go test -timeout=30m -shuffle=on $(if $(RUN),-run '$(RUN)') ./...

# Packages with concurrency. The race detector finds nothing in the others, and compiles them again.
CONCURRENT = ./functions/bridge/... ./functions/executor/... ./functions/function/... ./functions/jobsource/... ./functions/keptn/... \
  ./functions/run/... ./functions/server/... ./functions/signature/... ./functions/tracing/... ./functions/watcher/...

.PHONY: race
race: ## Unit tests of packages with concurrency, with the race detector
	CGO_ENABLED=1 go test -race -timeout=30m -shuffle=on $(CONCURRENT)

.PHONY: lint
lint: $(LINT) ## gofmt and golangci-lint, go vet's checks among its own
	@test -z "$$(gofmt -l functions test)" || { echo "gofmt these:"; gofmt -l functions test; exit 1; }
	$(LINT) run --build-tags e2e ./...

$(LINT):
	GOBIN=$(dir $(LINT)) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)

.PHONY: job-executor-lint
job-executor-lint: ## Build the tool that finds mistakes in job/config.yaml, into this directory
	go build -o $@ ./functions/cmd/lint

# Kubernetes, OpenTelemetry and their like go with the release of Knative that config/ is
# tested with.
.PHONY: outdated
outdated: ## List the modules of which there is a newer version
	@go list -m -u -e -f '{{with .Update}}{{$$.Path}} {{$$.Version}} -> {{.Version}}{{end}}' \
	  $$(go list -m -f '{{if not (or .Indirect .Main)}}{{.Path}}{{end}}' all)

# The database is at vuln.go.dev, which is no module proxy: where it can't be reached nothing is
# checked, and that is said.
VULNCHECK = $(CACHE)/govulncheck-$(GOVULNCHECK_VERSION)/govulncheck
.PHONY: vulnerabilities
vulnerabilities: $(VULNCHECK) ## Look for known vulnerabilities in what is called, if their database can be reached
	@told=$$($(VULNCHECK) ./functions/... 2>&1); status=$$?; echo "$$told"; \
	case "$$told" in *"fetching vulnerabilities"*) echo "vulnerabilities: NOT CHECKED, since their database can't be reached from here"; exit 0;; esac; \
	exit $$status

$(VULNCHECK):
	GOBIN=$(dir $(VULNCHECK)) go install golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK_VERSION)

# A room's own tests have to notice; what lives is printed with its place.
ROOM ?= ./functions/run
.PHONY: mutate
mutate: ## Change the code of ROOM=./functions/run in small ways, and list the changes that its tests do not notice
	go run github.com/go-gremlins/gremlins/cmd/gremlins@$(GREMLINS_VERSION) unleash --workers 2 $(ROOM)

.PHONY: e2e
e2e: cluster-up ## End-to-end tests on a real cluster, which they bring up; RUN=TestName runs one; AUTHENTICATION=1 with Knative's authentication-oidc on
	$(CLUSTER) exec go test -tags e2e -count=1 -timeout=60m $(if $(RUN),-run '$(RUN)') -v ./test/e2e

# What is killed, stopped and delayed in which order is decided by the seed.
MINUTES ?= 10
SEQUENCES ?= 200

.PHONY: chaos
chaos: cluster-up ## SEQUENCES=200 at once on the cluster while everything is killed in turn: MINUTES=10 over each transport, SEED=1
	CHAOS_MINUTES=$(MINUTES) CHAOS_SEQUENCES=$(SEQUENCES) CHAOS_SEED=$(SEED) $(CLUSTER) exec go test -tags e2e -count=1 -timeout=3h -v -run TestChaos ./test/e2e

# Ratios that are worse than the stored ones by more than the noise fail; ARGS="--write FILE" writes a report.
.PHONY: bench
bench: cluster-up ## Measure how the functions' work grows, then all on the cluster, against a bare loop, JobSink and a function that does nothing: ARGS="--help"
	go test -run '^$$' -bench Growth -benchtime 1x ./test/bench
	$(CLUSTER) exec go run ./test/bench/cluster $(ARGS)

.PHONY: trace
trace: ## Print the trace of CONTEXT=<Keptn context> from the cluster's Jaeger
	@$(CLUSTER) exec go run ./test/demo/trace "$(CONTEXT)"

.PHONY: cluster-up
cluster-up: ## Bring the one-node cluster up (the first time it is compiled)
	$(CLUSTER) up

.PHONY: cluster-down
cluster-down: ## Take the cluster down; only the cache of builds stays
	$(CLUSTER) down

# For who has no ko: the manifests with images by their digests, and what is in each image (SPDX), which
# names the base image by its digest.
RELEASE ?= release
VERSION ?= $(shell git describe --tags --always --dirty)

.PHONY: release
release: ## Build the images of VERSION into KO_DOCKER_REPO, and write their manifests and SBOMs into RELEASE=release
	@mkdir -p $(RELEASE)/sboms
	ko resolve --tags "$(VERSION)" --sbom spdx --sbom-dir $(RELEASE)/sboms --filename config/ > $(RELEASE)/job-executor.yaml

.PHONY: install
install: ## Install on the cluster that KUBECONFIG names, with images in KO_DOCKER_REPO
	ko apply -f config/
