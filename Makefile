# make run: a fresh machine to a running brokerage, with one order bought and sold. make test: all that CI runs.

BIN := .venv/bin
STAMP := .venv/.set-up
PROTOS := $(shell cd protos && find openbell -name '*.proto' | LC_ALL=C sort)
GENERATED := -name '*_pb2.py' -o -name '*_pb2.pyi' -o -name '*_pb2_grpc.py' -o -name '*_pb2_grpc.pyi'
# $(call generate,DIR): the code of protos/, into DIR, which exists.
generate = $(BIN)/python -m grpc_tools.protoc -Iprotos \
	--plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc \
	--python_out=$(1) --mypy_out=quiet:$(1) --grpc_python_out=$(1) --mypy_grpc_out=quiet:$(1) $(PROTOS:%=protos/%)

# Options of `openbell up`, as in: make run UP="--port-base 9400"
UP :=
# Options of `openbell bench ledger`, as in: make bench BENCH="--grow 0 --json"
BENCH :=
# Options of `openbell bench venue`, which follows it.
BENCH_VENUE :=

.PHONY: run test bench setup lint types imports drift proto-lint tests proto baseline lock

run: setup
	@$(BIN)/openbell up $(UP)
	@$(BIN)/openbell demo

test: lint types imports drift proto-lint tests

bench: setup
	@$(BIN)/openbell bench ledger $(BENCH)
	@$(BIN)/openbell bench venue $(BENCH_VENUE)

setup: $(STAMP)

$(STAMP): uv.lock pyproject.toml deploy/setup deploy/uv.txt
	@deploy/setup
	@touch $@

lint: setup
	@echo '== format and lint'
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check

types: setup
	@echo '== types'
	@$(BIN)/mypy

imports: setup
	@echo '== import contracts'
	@$(BIN)/lint-imports --no-cache

drift: setup
	@echo '== generated code is that of protos/ (if not: make proto)'
	@set -e; new=$$(mktemp -d); trap 'rm -rf "$$new"' EXIT; \
	$(call generate,$$new); \
	(cd protos && find openbell $(GENERATED)) | LC_ALL=C sort >"$$new/committed"; \
	(cd "$$new" && find openbell -type f) | LC_ALL=C sort >"$$new/generated"; \
	diff "$$new/committed" "$$new/generated"; \
	while read -r file; do diff -u "protos/$$file" "$$new/$$file"; done <"$$new/generated"

proto-lint: setup
	@echo '== protos: lint, and nothing of baseline.binpb renamed or removed (added to: make baseline)'
	@cd protos && ../$(BIN)/buf lint && ../$(BIN)/buf breaking --against baseline.binpb

tests: setup
	@echo '== tests'
	@$(BIN)/pytest

proto: setup
	@$(call generate,protos)

baseline: proto-lint
	@cd protos && ../$(BIN)/buf build --exclude-source-info -o baseline.binpb

lock:
	@$(BIN)/uv lock
