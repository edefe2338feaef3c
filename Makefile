# The two commands of the README: make serve, make test. Everything below sets itself up.
PORT ?= 3000
HOST ?= 127.0.0.1
VITRINE_HOME ?= $(CURDIR)/.vitrine
PYTHON ?= python3
SCENARIO ?= steady
LOAD_URL ?= http://127.0.0.1:$(PORT)
LOAD_SECONDS ?= $(if $(filter soak,$(SCENARIO)),3600,30)
LOAD_USERS ?= 8
LOAD_OPTIONS ?=
LOAD_REPORT := load-reports/$(SCENARIO)
SOAK_MINUTES ?= 60
CONTRACT_EXAMPLES ?= 100
CONTAINER_BASE ?= debian:12-slim
TORCH_INDEX ?=
WORK ?= $(VITRINE_HOME)/by-hand
TEST_PROCESSES ?= 2
export VITRINE_HOME

VENV := .venv
BIN := $(VENV)/bin
PAGE := service/ui/static/index.html
PAGE_SOURCES := service/ui/build.mjs $(shell find service/ui/src service/ui/public -type f)
NPM := sh service/ui/npm.sh $(BIN)/python
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check --no-compile
INSTALL := $(BIN)/python $(PIP_INSTALL) --constraint constraints.txt
unexport PYTHONDONTWRITEBYTECODE  # what pip leaves uncompiled is compiled once, when it is first used

.PHONY: audit faults flood sbom serve test check check-types check-code check-page check-gpu format load bento setup \
  clean chaos contract docs docs-serve chinese-encoder bench-finetune bench-inference bench-http bench-adapters \
  bench-overload bench-capacity bench-explain bench-render bench-traces bench-long-text bench-first-token \
  soak container-by-hand

serve: $(VENV)/serve.done $(PAGE)  ## install, fetch the base model, start at http://localhost:3000
	@$(BIN)/vitrine setup
	@exec $(BIN)/vitrine serve --host $(HOST) --port $(PORT)

setup: $(VENV)/serve.done $(PAGE)

test: $(VENV)/test.done $(PAGE)  ## the whole suite
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

check:  ## format, lint, types, imports, Dockerfile, the page, known vulnerabilities
	@$(MAKE) --no-print-directory --jobs 2 check-types check-page check-code audit

check-types: $(VENV)/test.done
	$(BIN)/mypy

check-code: $(VENV)/test.done
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile

check-page: $(VENV)/test.done
	$(NPM) run --silent check

audit: $(VENV)/test.done $(VENV)/audit.done  ## known vulnerabilities of what is pinned; says what could not be looked up
	$(BIN)/python -m tests.audit

sbom: $(VENV)/serve.done $(VENV)/page.done $(VENV)/audit.done  ## dist/sbom-python.json, dist/sbom-page.json (CycloneDX), checked
	@mkdir -p dist
	$(VENV)/audit/bin/cyclonedx-py environment $(BIN)/python --pyproject pyproject.toml --output-reproducible \
	  --spec-version 1.6 --output-format JSON --output-file dist/sbom-python.json
	$(NPM) sbom --package-lock-only --omit dev --sbom-format cyclonedx > dist/sbom-page.json
	$(VENV)/audit/bin/python tests/sbom.py dist/sbom-python.json dist/sbom-page.json

faults: $(VENV)/test.done $(PAGE)  ## attack and break things, and write what happened to docs/faults.md
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder -m faults
	cp .vitrine/faults.md docs/faults.md

flood: $(VENV)/test.done  ## as many idle connections as this machine lets one process open, up to 100,000
	VITRINE_IDLE_CONNECTIONS=100000 $(BIN)/python -m pytest tests/e2e/test_hostile.py -k flood

format: $(VENV)/test.done
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(NPM) run --silent format

load: $(VENV)/test.done  ## against a running service: SCENARIO=steady, ramp, spike, soak or mixed; a report as HTML
	@$(BIN)/python -m locust --headless --locustfile tests/load/locustfile.py --host $(LOAD_URL) --scenario $(SCENARIO) \
	  --users $(LOAD_USERS) --run-time $(LOAD_SECONDS)s --only-summary $(LOAD_OPTIONS) \
	  --html $(LOAD_REPORT)/report.html --csv $(LOAD_REPORT)/figures; \
	  status=$$?; echo "the report: $(CURDIR)/$(LOAD_REPORT)/report.html"; exit $$status

docs: $(VENV)/docs.done  ## the documents as a static site, English and Chinese, in build/site
	$(BIN)/python docs/site/build.py --output build/site

docs-serve: docs  ## the same, shown at http://localhost:8000
	$(BIN)/python -m http.server 8000 --bind 127.0.0.1 --directory build/site

chaos: $(VENV)/test.done  ## 200 random kills of service and workers; nothing may be lost (half an hour)
	$(BIN)/python -m tests.chaos

contract: $(VENV)/test.done  ## schemathesis over every operation, long and with other requests each time (half an hour)
	VITRINE_CONTRACT_EXAMPLES=$(CONTRACT_EXAMPLES) $(BIN)/python -m pytest tests/e2e/test_openapi.py -k document

check-gpu: $(VENV)/test.done  ## what only a GPU can show: the sums of a CPU, memory, jobs and answers on the card
	$(BIN)/vitrine setup
	$(BIN)/python -m pytest --noconftest -s tests/gpu_checks.py

container-by-hand: $(VENV)/test.done  ## each step of the Dockerfile without an engine, then the image as it runs; as root, in WORK
	$(BIN)/python -m tests.by_hand --work $(WORK) --build-arg BASE=$(CONTAINER_BASE) --build-arg TORCH_INDEX=$(TORCH_INDEX)

chinese-encoder: $(VENV)/serve.done  ## pre-train the Chinese encoder and put it into the store (half an hour on two cores)
	OMP_WAIT_POLICY=PASSIVE $(BIN)/vitrine pretrain chinese-encoder

bench-finetune: $(VENV)/serve.done  ## against the Trainer of transformers, within an hour; needs the Chinese encoder
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m benchmarks.bench_finetune --home $(VITRINE_HOME)

bench-explain: $(VENV)/serve.done  ## every attribution beside attention and chance; needs the Chinese encoder
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m benchmarks.bench_explain --home $(VITRINE_HOME)

bench-inference bench-http bench-adapters bench-overload bench-capacity bench-render bench-traces bench-long-text bench-first-token: $(VENV)/serve.done  ## the served forward pass: alone, over HTTP, with adapters, overloaded, within a bound on one core and two; pictures; traces; a text of megabytes; the first token alone
	@$(BIN)/vitrine setup
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m benchmarks.$(subst -,_,$@) --home $(VITRINE_HOME)

soak: $(VENV)/serve.done  ## an hour of load with a hundred swaps of a model: memory stays flat, nothing fails
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m benchmarks.soak --home $(VITRINE_HOME) --minutes $(SOAK_MINUTES)

bench-%: $(VENV)/serve.done  ## bench-chinese-encoder, -writer, -segmenter: train, measure, write benchmarks/results
	OMP_WAIT_POLICY=PASSIVE $(BIN)/vitrine pretrain $*
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m benchmarks.bench_$(subst -,_,$*) --home $(VITRINE_HOME)

bento: $(VENV)/serve.done $(PAGE)  ## a bento of the service with its base model
	@$(BIN)/vitrine setup
	BENTOML_HOME=$(VITRINE_HOME)/bentoml $(BIN)/bentoml build

clean:
	rm -rf $(VENV) service/ui/node_modules service/ui/static

$(PAGE): $(PAGE_SOURCES) $(VENV)/page.done
	@$(NPM) run --silent build

# esbuild and two small libraries; with the tools of the tests (types, format, accessibility) in test.done.
$(VENV)/page.done: service/ui/package.json service/ui/package-lock.json | $(VENV)/serve.done
	$(NPM) ci --omit=dev
	touch $@

# The CPU build of torch from the index you use, or the default one: see "What the install weighs" in the README.
$(VENV)/serve.done: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Vitrine needs Python 3.11 or newer; set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	@echo "installing Vitrine; the first time takes some minutes ..."
	$(INSTALL) setuptools
	$(INSTALL) --no-build-isolation --editable .
	$(BIN)/python -c 'import service.app, service.evaluate_cli, service.training_cli, service.jobs.worker'
	touch $@

$(VENV)/docs.done: $(VENV)/serve.done
	$(INSTALL) --no-build-isolation --editable '.[docs]'
	touch $@

$(VENV)/test.done: $(VENV)/serve.done service/ui/package-lock.json
	$(INSTALL) --no-build-isolation --editable '.[test,check,docs]'
	$(BIN)/python $(PIP_INSTALL) --no-deps --upgrade --target $(VENV)/openai-2 -r tests/openai-2.txt
	$(BIN)/python $(PIP_INSTALL) --no-deps --upgrade --target $(VENV)/openapi-client -r tests/openapi-client.txt
	sh tests/install_tools.sh
	$(NPM) ci
	touch $(VENV)/page.done $(VENV)/docs.done $@

# In an environment of its own: what audits and lists the dependencies is none of them.
$(VENV)/audit.done: tests/audit-tools.txt | $(VENV)/serve.done
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/python $(PIP_INSTALL) -r tests/audit-tools.txt
	touch $@
