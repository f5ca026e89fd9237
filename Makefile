.DEFAULT_GOAL := help
SHELL := /bin/bash

help: ## Show what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

run: ## Run ProxyTorrent on this machine in the development profile
	@scripts/setup build
	@cargo build --release --quiet --package proxytorrent
	@exec target/release/proxytorrent serve --dev

test: ## Run every check and every test
	@scripts/setup test
	cargo fmt --all --check
	cargo clippy --quiet --workspace --all-targets -- -D warnings
	cargo test --quiet --workspace --doc
	cargo nextest run --workspace --cargo-quiet

lint: ## Check the format and the lints
	@scripts/setup build
	cargo fmt --all --check
	cargo clippy --quiet --workspace --all-targets -- -D warnings

fmt: ## Format the code
	cargo fmt --all

bench: ## Measure against curl, mktorrent and libtorrent
	@scripts/setup test
	@cargo build --release --quiet --package proxytorrent --package bench
	@target/release/bench

setup: ## Install what the tests need
	@scripts/setup test

clean: ## Delete what was built and fetched
	rm -rf target .tools

.PHONY: help run test lint fmt bench setup clean
