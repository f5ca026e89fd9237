.DEFAULT_GOAL := help
SHELL := /bin/bash

# For `sam build`, too, which builds for the architecture that they name.
parameters = $(if $(PARAMETERS),--parameter-overrides $(strip $(PARAMETERS)))
sam-build = PATH="$$PWD/.tools/lambda/bin:$$PATH" SAM_CLI_TELEMETRY=0 CARGO_PROFILE_RELEASE_DEBUG=false \
  CARGO_PROFILE_RELEASE_STRIP=true sam build --region us-east-1 $(parameters)
# For tests: without optimization, because they check the deployment and not the size of the binaries.
sam-build-in-a-hurry = echo "sam build"; mkdir -p target; \
  CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=0 $(sam-build) >target/sam-build.log 2>&1 \
  || { cat target/sam-build.log; exit 1; }
images-in-a-hurry = scripts/build-images --build-arg CARGO_PROFILE_RELEASE_LTO=off --build-arg CARGO_PROFILE_RELEASE_OPT_LEVEL=0
# The tests have built the program.
deb-in-a-hurry = scripts/package-files target/debug/proxytorrent && .tools/cargo/bin/cargo-deb --package proxytorrent \
  --profile dev --no-build --no-strip --fast --quiet --output target/proxytorrent.deb >/dev/null

lint-infra = .tools/python/bin/cfn-lint template.yaml infra/*.yaml && \
  .tools/python/bin/check-jsonschema --quiet --builtin-schema vendor.compose-spec infra/compose/compose.yaml

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

run: ## Run ProxyTorrent on this machine in the development profile
	@scripts/setup build
	@echo "building (about 5 minutes the first time)"
	@cargo build --release --package proxytorrent
	@exec target/release/proxytorrent serve --dev

run-aws: ## Run ProxyTorrent on an emulated AWS on this machine
	@scripts/setup aws
	@echo "building (about 8 minutes the first time)"
	@cargo build --release --package proxytorrent-functions --package proxytorrent-seeder-container
	@exec .tools/python/bin/python infra/emulated/run.py --binaries target/release

lambda-watch: ## As run-aws, and rebuild a function when its source changes
	@scripts/setup lambda
	@echo "building (about 4 minutes the first time)"
	@cargo build --package proxytorrent-seeder-container --package proxytorrent-functions
	@PATH="$$PWD/.tools/lambda/bin:$$PATH" exec .tools/python/bin/python infra/emulated/run.py --binaries target/debug --watch --port 9000

deb: ## Build the Debian package, and one with the debug symbols
	@scripts/setup deb
	cargo build --release --locked --package proxytorrent
	scripts/package-files target/release/proxytorrent
	.tools/cargo/bin/cargo-deb --package proxytorrent --dbgsym -- --locked

test: ## Run every check and every test
	@echo "make test: installs missing tools, runs format, clippy, template linter, doc tests, sam build and all tests;"
	@echo "about 40 minutes for the first run and 16 for later ones on two cores. make unit takes a minute."
	@scripts/setup test
	@scripts/setup lambda
	cargo fmt --all --check
	cargo clippy --quiet --workspace --all-targets -- -D warnings
	@$(lint-infra)
	cargo test --quiet --workspace --doc
	@$(sam-build-in-a-hurry)
	@$(images-in-a-hurry)
	@cargo test --quiet --workspace --no-run
	@$(deb-in-a-hurry)
	cargo nextest run --workspace --cargo-quiet --run-ignored all

unit: ## Run the tests that need neither root nor Python nor SAM
	@scripts/setup build
	cargo test --quiet --workspace --lib --bins
	cargo test --quiet --package proxytorrent-embedded --package proxytorrent-pipeline

lint: ## Check the format, the Clippy lints and the template
	@scripts/setup aws
	cargo fmt --all --check
	cargo clippy --quiet --workspace --all-targets -- -D warnings
	@$(lint-infra)

sam-build: ## Build the functions for AWS, optimized for size like the profile `function`
	@scripts/setup lambda
	CARGO_PROFILE_RELEASE_CODEGEN_UNITS=1 CARGO_PROFILE_RELEASE_LTO=fat CARGO_PROFILE_RELEASE_OPT_LEVEL=z $(sam-build)

test-deploy: ## Build and deploy with SAM to an emulated AWS, and test a fetch and a download there
	@scripts/setup test
	@scripts/setup lambda
	@$(sam-build-in-a-hurry)
	@$(images-in-a-hurry)
	@cargo test --quiet --workspace --no-run
	@$(deb-in-a-hurry)
	cargo nextest run --workspace --cargo-quiet --run-ignored only

validate: ## Check the template with the SAM CLI
	@scripts/setup lambda
	SAM_CLI_TELEMETRY=0 .tools/lambda/bin/sam validate --lint --region us-east-1

stage = $(or $(STAGE),$(error set STAGE, such as STAGE=dev))
stack = proxytorrent-$(stage)
sam = SAM_CLI_TELEMETRY=0 .tools/lambda/bin/sam

deploy: sam-build ## Deploy to AWS: STAGE=dev PARAMETERS='Secret=NAME …' (docs/aws.md)
	$(sam) deploy --stack-name $(stack) --resolve-s3 --capabilities CAPABILITY_IAM CAPABILITY_AUTO_EXPAND \
	  --no-fail-on-empty-changeset $(parameters)

logs: ## Follow the logs on AWS: STAGE=dev, and OF=seeders for those of the seeders
	@scripts/setup lambda
	$(sam) logs --cw-log-group /$(stack)/$(or $(OF),functions) --tail

redrive: ## Move the messages of the seeders' dead-letter queue back: STAGE=dev
	@scripts/setup aws
	.tools/python/bin/python infra/redrive.py $(stack)

backup: ## Back up the tables of requests and torrents: STAGE=dev NAME=before-upgrade
	@scripts/setup aws
	.tools/python/bin/python infra/backup.py create $(stack) $(or $(NAME),$(error set NAME, such as NAME=before-upgrade))

restore: ## Restore these tables: STAGE=dev FROM=before-upgrade, or FROM=2026-11-27T10:00:00Z
	@scripts/setup aws
	.tools/python/bin/python infra/backup.py restore $(stack) $(or $(FROM),$(error set FROM to the name of a backup or a time))

delete: ## Delete a stack from AWS; tables of requests and torrents, and the bucket, stay: STAGE=dev
	@scripts/setup lambda
	$(sam) delete --stack-name $(stack)

page: ## Build the libraries of the web page from the packages of tests/node
	@scripts/setup test
	scripts/build-page shared/api/page

screenshots: ## Take the pictures of the web page for docs/images
	@scripts/setup test
	cargo nextest run --workspace --cargo-quiet -E 'test(the_page_is_accessible)'
	@mkdir -p docs/images
	cp target/screenshots/page-*.png docs/images

fmt: ## Format the code
	cargo fmt --all

bench: ## Measure against curl, mktorrent and libtorrent; PART=speed|api|seeding|sessions|remote|hashing|proxied|scale|functions|startup measures one part
	@scripts/setup test
	@cargo build --release --package proxytorrent --package proxytorrent-bench
	@case "$(PART)" in ""|functions|startup) \
	  cargo build --profile function --package proxytorrent-functions --bins --example hello ;; esac
	@target/release/bench $(PART)

bench-swarm: ## Measure swarms of 20 and 50 peers in network namespaces, one with late peers (needs root)
	@scripts/setup test
	@cargo build --release --package proxytorrent
	@for arguments in "--peers 20" "--peers 20 --late 5" "--peers 50 --limit 500000 --seeder 1000000"; do \
	  .tools/python/bin/python bench/swarm.py target/release/proxytorrent $$arguments || exit 1; done

deny: ## Check the licenses and sources of all dependencies
	@cargo deny --version >/dev/null 2>&1 || cargo install --locked --quiet cargo-deny --version 0.18.9
	cargo deny check licenses bans sources

audit: ## Check the templates and the Dockerfile for security (checkov); .checkov.yaml says what does not apply
	@scripts/setup audit
	.tools/audit/bin/checkov --config-file .checkov.yaml

sbom: ## Write a software bill of materials (CycloneDX) for each program to target/sbom
	@scripts/setup sbom
	@.tools/cargo/bin/cargo-cyclonedx cyclonedx --quiet --format json --describe binaries --no-build-deps --spec-version 1.5
	@mkdir -p target/sbom
	@for file in */*_bin.cdx.json */*/*_bin.cdx.json; do \
	  sed "s#file://$$PWD#file://#" "$$file" >"target/sbom/$${file##*/}" && rm "$$file" || exit 1; done

check-memory: ## Run the tests of the libtorrent binding under valgrind, with 10,000 torrents
	@scripts/setup memory
	ROUNDS=10000 CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="valgrind --quiet --error-exitcode=1 --leak-check=full \
	  --errors-for-leak-kinds=definite" cargo test --package libtorrent-sys --test session

setup: ## Install the packages and tools for the tests
	@scripts/setup test

clean: ## Delete the build output and the installed tools
	@# An interrupted test may have left an image mounted.
	@! [ -d .tools/images ] || buildah --root .tools/images/root --runroot .tools/images/run rm --all >/dev/null
	rm -rf target .tools

.PHONY: help run run-aws lambda-watch sam-build validate deb test unit deny audit sbom test-deploy lint deploy logs redrive backup restore delete page screenshots fmt bench bench-swarm check-memory setup clean
