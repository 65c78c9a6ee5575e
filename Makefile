# The few commands of this repository. `make demo` and `make test` are all a newcomer needs.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test lint fuzz differences bench bench-edge drills

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

demo: ## the whole infrastructure on this machine; q ends it
	@scripts/need postgresql
	cargo build --release --bin tiebeam
	@target/release/tiebeam demo $(DEMO)

test: lint ## everything that must be true before a change lands
	@scripts/need postgresql clang c++
	cargo build --workspace --bins --examples
	scripts/test
	scripts/fuzz 15

lint: ## format, clippy with warnings denied, the rules of the house, licences of what we depend on
	@scripts/need rustfmt clippy clang
	cargo fmt --all --check
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo xtask tidy
	@scripts/licences

fuzz: ## look for input that breaks the edge's parsers; SECONDS=600 for each, KEEP=1 keeps what reached new code
	@scripts/need c++
	scripts/fuzz $(if $(KEEP),--keep) $(or $(SECONDS),600) $(TARGETS)

differences: ## docs/differences.md: hostile messages through the edge, nginx and HAProxy
	@scripts/need haproxy nginx python3
	cargo build --bin tiebeam
	bench/differences.py >target/differences.md && mv target/differences.md docs/differences.md

drills: ## ten times in a row every fault of the demo, one receipt each
	@scripts/need postgresql python3
	cargo build --release --bin tiebeam
	scripts/drills 10

bench: ## the figures of docs/performance.md
	@scripts/need postgresql python3
	cargo build --release --bin tiebeam
	scripts/bench

bench-edge: ## the edge against HAProxy and nginx; ROUNDS=1 SECONDS=3 CASES=http-64 for a short look
	@scripts/need haproxy nginx wrk h2load openssl python3
	cargo build --release -p tiebeam -p tiebeam-lab --bins
	bench/edge.py $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SECONDS),--seconds $(SECONDS)) $(if $(CASES),--cases "$(CASES)")
