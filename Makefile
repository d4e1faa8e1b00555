# Everything that a developer needs. `make help` lists it.

GOLANGCI_LINT_VERSION = v2.6.2
GREMLINS_VERSION = v0.6.0
GOVULNCHECK_VERSION = v1.9.0
COSIGN_VERSION = v2.6.5
CACHE = $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/job-executor
LINT = $(CACHE)/golangci-lint-$(GOLANGCI_LINT_VERSION)/golangci-lint
COSIGN = $(CACHE)/cosign-$(COSIGN_VERSION)/cosign
CLUSTER = go -C test/cluster run .
# ko and the test cluster compile with the same flags, so that nothing compiles twice.
export CGO_ENABLED ?= 0

.DEFAULT_GOAL = help

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "%-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## Show a Keptn sequence in one process; ARGS="--config my/job/config.yaml" tries yours (--help tells more)
	@go run ./test/demo $(ARGS)

.PHONY: demo-cluster
demo-cluster: cluster-up ## Show the sequence on a one-node cluster, which it starts; ARGS as for demo, but for --setting and --verbose
	$(CLUSTER) exec go run ./test/demo/cluster $(ARGS)

.PHONY: test
test: unit $(if $(RUN),,lint simulate) ## Unit tests, whole sequences in one process, lint, and a few simulations; RUN=TestName runs one test

# A failure prints the last events of its task and the command that repeats it. LOG=debug prints all events.
SEED ?= 1
SEEDS ?= 10
TASKS ?= 100

.PHONY: simulate
simulate: ## Simulate SEEDS=10 times about TASKS=100 tasks with faults, on a virtual clock
	SEED=$(SEED) SEEDS=$(SEEDS) TASKS=$(TASKS) LOG=$(LOG) go test -count=1 -timeout=2h -run 'TestEveryTask' -v ./test/simulation

.PHONY: unit
unit: ## Unit tests, and whole sequences in one process; RUN=TestName runs one
	go test -timeout=30m -shuffle=on $(if $(RUN),-run '$(RUN)') ./...
	go -C test/cluster test -timeout=10m -shuffle=on $(if $(RUN),-run '$(RUN)') .

# Packages with concurrency. The race detector finds nothing in the others, and compiles them again.
CONCURRENT = ./functions/bridge/... ./functions/executor/... ./functions/function/... ./functions/jobsource/... ./functions/keptn/... \
  ./functions/protocol/... ./functions/run/... ./functions/signature/... ./functions/telemetry/... ./functions/watcher/...

.PHONY: race
race: ## Unit tests of packages with concurrency, with the race detector
	CGO_ENABLED=1 go test -race -timeout=30m -shuffle=on $(CONCURRENT)

.PHONY: lint
lint: $(LINT) ## gofmt and golangci-lint
	@test -z "$$(gofmt -l functions test)" || { echo "gofmt these:"; gofmt -l functions test; exit 1; }
	$(LINT) run --build-tags e2e ./...
	cd test/cluster && $(LINT) run --config ../../.golangci.yml ./...

$(LINT):
	GOBIN=$(dir $(LINT)) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)

.PHONY: job-executor
job-executor: ## Build job-executor, the command line, into this directory
	go build -o $@ ./functions/cmd/job-executor

# The versions of Kubernetes follow the Knative release that config/ is tested with.
.PHONY: outdated
outdated: ## List modules with a newer version
	@go list -m -u -e -f '{{with .Update}}{{$$.Path}} {{$$.Version}} -> {{.Version}}{{end}}' \
	  $$(go list -m -f '{{if not (or .Indirect .Main)}}{{.Path}}{{end}}' all)

# The database at vuln.go.dev is not on module proxies. If it cannot be reached, nothing is checked, and
# the target says so.
VULNCHECK = $(CACHE)/govulncheck-$(GOVULNCHECK_VERSION)/govulncheck
.PHONY: vulnerabilities
vulnerabilities: $(VULNCHECK) ## Look for known vulnerabilities in called code, if the database can be reached
	@told=$$($(VULNCHECK) ./functions/... 2>&1); status=$$?; echo "$$told"; \
	case "$$told" in *"fetching vulnerabilities"*) echo "vulnerabilities: NOT CHECKED, since their database can't be reached from here"; exit 0;; esac; \
	exit $$status

$(VULNCHECK):
	GOBIN=$(dir $(VULNCHECK)) go install golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK_VERSION)

# The package's own tests must notice each change. Surviving changes are listed with their positions.
ROOM ?= ./functions/run
.PHONY: mutate
mutate: ## Mutate the code of ROOM=./functions/run, and list the mutations that its tests do not notice
	go run github.com/go-gremlins/gremlins/cmd/gremlins@$(GREMLINS_VERSION) unleash --workers 2 $(ROOM)

# Where the cluster's Brokers keep their events.
BROKER ?= in-memory

# Only TestReleases needs cosign, which takes long to compile.
.PHONY: e2e
e2e: cluster-up $(if $(if $(RUN),$(findstring Releases,$(RUN)),all),$(COSIGN)) ## End-to-end tests on a one-node cluster, which they start; RUN=TestName runs one; AUTHENTICATION=1 enables Knative's authentication-oidc, BROKER=natss or rabbitmq keeps events there, PREVIOUS=v1.2.3 is what TestReleases upgrades from, and PLATFORMS=windows/amd64,… what it builds the command line for
	$(CLUSTER) broker $(BROKER)
	COSIGN=$(COSIGN) $(CLUSTER) exec go test -tags e2e -count=1 -timeout=3h $(if $(RUN),-run '$(RUN)') -v ./test/e2e

# The seed decides what is killed, stopped and delayed, and in which order.
MINUTES ?= 10
SEQUENCES ?= 200

.PHONY: chaos
chaos: cluster-up ## Run SEQUENCES=200 at once while everything is killed in turn, MINUTES=10 over each transport, SEED=1, BROKER=natss
	$(CLUSTER) broker $(BROKER)
	BROKER=$(BROKER) CHAOS_MINUTES=$(MINUTES) CHAOS_SEQUENCES=$(SEQUENCES) CHAOS_SEED=$(SEED) $(CLUSTER) exec go test -tags e2e -count=1 -timeout=3h -v -run TestChaos ./test/e2e

HOURS ?= 3

.PHONY: soak
soak: cluster-up ## Repeat different sequences for HOURS=3, with faults and rotated keys in each hour: memory, goroutines, open files and idle requests stay flat; SEED=1, BROKER=natss
	$(CLUSTER) broker $(BROKER)
	BROKER=$(BROKER) SOAK_HOURS=$(HOURS) CHAOS_SEED=$(SEED) $(CLUSTER) exec go test -tags e2e -count=1 -timeout=48h -v -run TestSoak ./test/e2e

# It fails if a ratio is worse than the stored one by more than the noise. ARGS="--write FILE" writes a
# report.
.PHONY: bench
bench: cluster-up ## Measure the functions' growth, and latencies and rates on the cluster next to a bare loop, JobSink and an empty function: ARGS="--help", BROKER=natss
	$(CLUSTER) broker $(BROKER)
	go test -run '^$$' -bench Growth -benchtime 1x ./test/bench
	$(CLUSTER) exec go run ./test/bench/cluster $(ARGS)

.PHONY: trace
trace: ## Print the trace of CONTEXT=<Keptn context> from the cluster's Jaeger
	@$(CLUSTER) exec go run ./functions/cmd/job-executor trace "$(CONTEXT)" --jaeger observability/jaeger:16686

.PHONY: cluster-up
cluster-up: ## Start the one-node cluster (compiled at the first start); KUBERNETES=v1.33.13 runs that version of Kubernetes
	$(CLUSTER) up

.PHONY: cluster-down
cluster-down: ## Stop the cluster; only the cache of builds remains
	$(CLUSTER) down

# For installations without ko and Go: manifests with images by digest, one for each overlay, the command line for each
# platform, SBOMs (SPDX), notes and checksums.
RELEASE ?= release
VERSION ?= $(shell git describe --tags --always --dirty)

# Without KEY, nothing is signed.
KEY ?=

.PHONY: release
release: $(if $(KEY),$(COSIGN)) ## Build the images of VERSION=v1.2.3 into KO_DOCKER_REPO, and everything else into RELEASE=release; KEY=cosign.key or KEY=keyless signs
	go run ./test/release --version "$(VERSION)" --directory "$(RELEASE)" --key "$(KEY)" --cosign "$(COSIGN)"

$(COSIGN):
	GOBIN=$(dir $(COSIGN)) go install github.com/sigstore/cosign/v2/cmd/cosign@$(COSIGN_VERSION)

.PHONY: install
install: ## Install on the cluster that KUBECONFIG names, with images in KO_DOCKER_REPO
	ko apply -f config/
