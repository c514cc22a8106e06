# Two commands do everything on a machine with Rust, a C++ compiler and pip:
#   make demo    the main job on real data        make test    the tests
# Each sets up LibTorch and the data it needs by itself; a second call does nothing twice.

CARGO ?= cargo
RUN ?= runs
TWEEDIE = target/release/tweedie
EXAMPLES = table images diffusers oracle covariance objective

.PHONY: setup data demo test check bench slow-tests fuzz wheel test-python python-docs

setup:
	@./scripts/setup-libtorch.sh

data:
	@./scripts/fetch-data.sh

demo: setup data
	@./scripts/demo.sh $(RUN)

test: setup
	$(CARGO) test --all-targets
	$(CARGO) test --doc
	@for example in $(EXAMPLES); do echo "== example $$example"; \
		$(CARGO) run --quiet --package tweedie --example $$example || exit 1; done

# Everything that CI runs.
check: setup
	$(CARGO) fmt --check
	rustfmt --edition 2024 --check crates/tweedie/src/covariance/*.rs
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --workspace
	$(MAKE) test-python
	$(MAKE) test

# The Python package, into target/wheels.
wheel: setup
	@./scripts/build-wheel.sh

# The Python package's tests, in a virtual environment of their own.
test-python: setup
	@./scripts/test-python.sh

# Pages of the Python package's docstrings, into target/doc/python.
python-docs: setup
	@DOCS=1 ./scripts/test-python.sh

# Statistical checks that take minutes; see CONTRIBUTING.md.
slow-tests: setup
	$(CARGO) test --release --test slow -- --ignored --nocapture

# Damaged and hostile files for every reader, for a minute; see CONTRIBUTING.md.
fuzz: setup
	TWEEDIE_FUZZ_SECONDS=$${TWEEDIE_FUZZ_SECONDS:-60} TWEEDIE_FUZZ_SEED=$${TWEEDIE_FUZZ_SEED:-$$(date +%s)} \
		$(CARGO) test --release --test fuzz -- --test-threads 1 --nocapture

bench: setup
	$(CARGO) bench
