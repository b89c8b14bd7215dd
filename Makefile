# The vocabulary of the project. `make help` lists it.
#
# Everything is built with one profile, --release, and always for the whole workspace: any other choice of profile,
# packages or features compiles Polars again (about half an hour on two cores).

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

FLOE_CACHE ?= $(HOME)/.cache/floe
CARGO_TARGET_DIR ?= $(FLOE_CACHE)/target
export FLOE_CACHE CARGO_TARGET_DIR
BIN := $(CARGO_TARGET_DIR)/release
export PATH := $(BIN):$(PATH)
CARGO_FLAGS := --release --workspace --locked
PYTHON := $(FLOE_CACHE)/venv/bin/python

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## check the tools, make the Python environment of the tests
	@tests/setup >/dev/null

.PHONY: build
build: ## compile floe and floe-runner (half an hour the first time, because of Polars)
	@tests/setup --check
	@cargo build $(CARGO_FLAGS) --bins
	@echo "build: $(BIN)/floe and $(BIN)/floe-runner"

.PHONY: test
test: ## all tests; makes what they need, fails if any fails
	@tests/run

.PHONY: unit
unit: ## only the Rust tests that need no server, no data and no processes
	@cargo test $(CARGO_FLAGS) --lib --bins

.PHONY: images
images: build ## the images of operator and runner, with docker, podman or buildah (BASE=... TAG=... IMAGE_PREFIX=...)
	@images/build

.PHONY: release
release: build ## build, sign and push images and chart (REGISTRY=... TAG=... PLATFORMS=...; docs/release.md)
	@images/release

.PHONY: crd-test
crd-test: ## the CRD in the API server's own code: schema, defaults, CEL rules and their messages, no cluster needed
	@cd api/apiserver && CGO_ENABLED=0 go test -trimpath ./...

.PHONY: chart-test
chart-test: setup ## the Helm chart: lint, schemas, unit tests
	@PYTHONPATH=. $(PYTHON) -m pytest -q -p no:cacheprovider tests/chart

.PHONY: cluster-up
cluster-up: ## a Kubernetes on this machine, without Docker (Debian, root); prints its KUBECONFIG
	@tests/cluster/up

.PHONY: cluster-down
cluster-down: ## take it down, leave nothing
	@tests/cluster/down

.PHONY: e2e
e2e: build setup ## end-to-end tests on that Kubernetes, on KUBECONFIG's, or with CLUSTER=kind (ARGS= of pytest)
	@CLUSTER=$(CLUSTER) tests/cluster/e2e $(ARGS)

.PHONY: soak
soak: build setup ## 2,000 queries of mixed fates on that Kubernetes for two hours, everything killed at seeded moments (ARGS=...)
	@export KUBECONFIG="$$(tests/cluster/up)" && tests/cluster/load && tests/e2e/install up && \
		{ PYTHONPATH=. $(PYTHON) -m tests.soak $(ARGS); code=$$?; tests/e2e/install down; exit $$code; }

.PHONY: bench-cluster
bench-cluster: build setup ## from apply to Succeeded, and thousands of queries with a fake kubelet
	@export KUBECONFIG="$$(tests/cluster/up)" && tests/cluster/load && tests/e2e/install up && \
		{ PYTHONPATH=. $(PYTHON) -m bench.cluster $(ARGS); code=$$?; tests/e2e/install down; exit $$code; }

.PHONY: demo
demo: build ## a distributed query over sample data on this machine
	@tests/demo

.PHONY: verify
verify: build setup ## many random plans, distributed against single-node and a Python wheel (N=3000 SEED=... VERSION=1.43.2)
	@version=$(or $(VERSION),1.43.2); tests/wheels $$version; \
	floe-runner verify --random $(or $(N),3000) $(if $(SEED),--seed $(SEED)) --oracle python --oracle-version $$version \
		--expect tests/verify/expected.yaml --floor random

.PHONY: verify-report
verify-report: build setup ## random plans in every setting of the tests, new seeds: bench/results/random.md (ARGS="--plans 20000 --minutes 60")
	@tests/wheels && PYTHONPATH=. $(PYTHON) -m tests.verify.report --write $(ARGS)

.PHONY: sql
sql: build setup ## random SQL queries against Polars 2.1 (N=2000 SEED=...)
	@PYTHONPATH=. $(PYTHON) -m tests.sql.random_queries --count $(or $(N),2000) --seed $(or $(SEED),$$RANDOM)

SQLLOGIC := --manifest-path tests/sql/sqllogic/Cargo.toml --target-dir $(FLOE_CACHE)/sqllogic

.PHONY: sqllogic
sqllogic: build setup ## the SQL suite by sqllogictest (ARGS="--way by-hash --matching lateral tests/sql/join.slt")
	@cargo build --release --locked $(SQLLOGIC)
	@FLOE_PYTHON=$(PYTHON) PYTHONPATH=. $(FLOE_CACHE)/sqllogic/release/floe-sqllogic \
		$(ARGS) $(if $(filter %.slt,$(ARGS)),,tests/sql/*.slt)

.PHONY: data
data: ## PDS-H tables as Parquet (SF=1)
	@tests/data $(or $(SF),1)

.PHONY: pdsh-check
pdsh-check: setup ## the 22 PDS-H scripts against DuckDB running the SQL (SF=1)
	@data="$$(tests/data $(or $(SF),1))"; \
	PYTHONPATH=. $(PYTHON) -m bench.pdsh.check --data "$$data" --scale-factor $(or $(SF),1)

.PHONY: bench
bench: build setup ## Floe beside single-process Polars, 22 queries (SF=1 REPEATS=3 ARGS=...)
	@data="$$(tests/data $(or $(SF),1))"; \
	PYTHONPATH=. $(PYTHON) -m bench.run --data "$$data" --scale-factor $(or $(SF),1) --repeats $(or $(REPEATS),3) $(ARGS)

.PHONY: bench-sql
bench-sql: build setup ## the 22 texts as SQL beside DuckDB, DataFusion and Polars (SF=10 REPEATS=2 ARGS=...)
	@$(PYTHON) -m pip install --quiet --requirement bench/requirements.txt
	@data="$$(tests/data $(or $(SF),10))"; FLOE_PYTHON=$(PYTHON) PYTHONPATH=. $(PYTHON) -m bench.sql --data "$$data" \
		--scale-factor $(or $(SF),10) --repeats $(or $(REPEATS),2) $(ARGS)

.PHONY: bench-overhead
bench-overhead: build setup ## what three stages on tiny data cost over Polars alone
	@PYTHONPATH=. $(PYTHON) -m bench.overhead $(ARGS)

.PHONY: bench-python
bench-python: build setup ## the Python package: start of a context, cost of a tiny query, speed of a result
	@PYTHONPATH=. $(PYTHON) -m bench.python $(ARGS)

.PHONY: bench-functions
bench-functions: build setup ## Python functions in a plan, two workers beside single-process Polars
	@PYTHONPATH=. $(PYTHON) -m bench.functions $(ARGS)

.PHONY: bench-memory
bench-memory: build setup ## SF10 q9, q18 and q21 with 1 GiB a worker
	@data="$$(tests/data 10)"; PYTHONPATH=. $(PYTHON) -m bench.memory --data "$$data" --scale-factor 10 $(ARGS)

.PHONY: bench-tables
bench-tables: build setup ## SF10 lineitem to files, sorted and joined with itself with 512 MiB a worker (SF=10 ARGS=...)
	@data="$$(tests/data $(or $(SF),10))"; PYTHONPATH=. $(PYTHON) -m bench.memory --data "$$data" --scale-factor $(or $(SF),10) \
		--tables directory,file,csv,filter,partitions,sort,join --memory 512Mi --timeout 2400 $(ARGS)

.PHONY: bench-lake
bench-lake: build setup ## Delta and Iceberg tables beside Polars' own scans of them (SF=1 ARGS=...)
	@data="$$(tests/data $(or $(SF),1))"; PYTHONPATH=. $(PYTHON) -m bench.lake --data "$$data" $(ARGS)

.PHONY: bench-concurrency
bench-concurrency: build setup ## 50 tiny queries at once beside one alone, on four warm workers
	@PYTHONPATH=. $(PYTHON) -m bench.concurrency $(ARGS)

.PHONY: fmt
fmt: ## format the code
	@cargo fmt --all
	@cargo fmt --manifest-path tests/sql/sqllogic/Cargo.toml

.PHONY: lint
lint: ## formatting, clippy, licences (clippy checks Polars once: half an hour the first time)
	@cargo fmt --all -- --check
	@cargo fmt --manifest-path tests/sql/sqllogic/Cargo.toml -- --check
	@cargo clippy $(CARGO_FLAGS) --all-targets -- -D warnings
	@cargo clippy --release --locked $(SQLLOGIC) --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null; then cargo deny check bans licenses sources; \
	 else echo "lint: cargo-deny is not installed, licences are not checked (cargo install cargo-deny --locked)"; fi

.PHONY: clean
clean: ## remove what tests and demos left here (not the compiled code: cargo clean does)
	@rm -rf out .floe
