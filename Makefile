# Everything is installed into virtual environments inside this folder; nothing is changed elsewhere.
#   make setup      .venv: the backend, Blender as a Python module, and the tools
#   make demo       build a small scene and shade it with the embedded model
#   make test       the tests that have to pass before a change lands, on every version of Blender that this machine can have
#   make test-all   every test on every version of Blender: also the long ones, and those that one version of Blender is enough for
#   make test-fast  the quick unit tests only: about two minutes
#   make coverage   unit, integration and Blender tests with the share of the code that they run, in build/coverage/
#   make lint       ruff and pyright
#   make docs       API pages from the docstrings, in build/docs/
#   make bench      the benchmark table
#   make campaigns  damaged files, messages and stores, kill -9 and floods: a table of what went wrong
#   make mini       the embedded model from nothing, data first, into runs/mini: hours; where it was stopped, it goes on
#   make mini-motion  the embedded model for motion from footage, from nothing: about 10 hours on one core without bfloat16, 4 with it; resumes
#   make mini-matrix  the embedded model for many cameras, from mini: 66 minutes on one core; goes on where it was stopped
#   make extension  the add-on as installable zips, one for each platform, and a repository index, in dist/

SHELL := /bin/bash
MAKEFLAGS += --no-print-directory
TORCH ?= torch==2.13.0
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Tests start hundreds of processes, which should not compile the same modules again.
unexport PYTHONDONTWRITEBYTECODE
pip_install = PYTHONWARNINGS=ignore $(1)/bin/pip install -q --no-compile

# A Python of this version that can make virtual environments: the one on the path, else one of pyenv's.
comma := ,
find_python = $(shell for p in python$(1) "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/$(1).*/bin/python; do \
	"$$p" -c 'import ensurepip, sys; sys.exit(sys.version_info[:2] != ($(subst .,$(comma),$(1))))' 2>/dev/null \
	&& echo "$$p" && break; done)

# bpy 4.5 is made for Python 3.11 and bpy 5.1 and later for 3.13. The add-on is developed on 4.5, tested in full on 4.5
# and on 5.3 (by `make test-all`; `make test` runs those marked "once" on 5.3 only), and tried by a few tests (those
# marked "smoke") on 5.2, the long-term support release.
PYTHON_4 := $(call find_python,3.11)
PYTHON_5 := $(call find_python,3.13)
PYTHON ?= $(or $(PYTHON_4),$(PYTHON_5))
KEY := $(shell sed '/^\[tool.ruff\]/,$$d' pyproject.toml | cksum | cut -d' ' -f1)
READY := .venv/.ready-$(KEY)
BLENDERS_5 := 5.2 5.3
PYTEST := -m pytest -p no:cacheprovider
# `make NOT_LONG= test-unit`, and the same of each suite, runs the long tests, too.
NOT_LONG := not long

.PHONY: setup setup-5 demo test test-all test-fast test-unit test-integration test-server test-training test-bpy test-bpy-5.2 test-bpy-5.3 compile coverage \
	bench campaigns lint docs mini mini-matrix mini-motion extension clean

setup: $(READY)

$(READY):
	@[ -n "$(PYTHON)" ] || { echo "Python 3.11 or 3.13 with venv is needed (Debian: apt-get install python3.11-venv)." >&2; exit 3; }
	@$(PYTHON) backend/trackshade/cli/system.py
	@echo "Setting up .venv with $$($(PYTHON) --version): about 3 GB, a few minutes."
	@$(PYTHON) -m venv .venv
	@echo "  1 of 2: PyTorch" && $(call pip_install,.venv) "$(TORCH)"
	@echo "  2 of 2: Trackshade, Blender's Python module and the tools" && $(call pip_install,.venv) -e '.[backend,blender,lab,dev]'
	@rm -f .venv/.ready-* && touch $@

setup-5:
ifeq ($(and $(PYTHON_4),$(PYTHON_5)),)
	@echo "Only one of Python 3.11 and 3.13 was found: the add-on is tested on one version of Blender."
else
	@$(MAKE) $(BLENDERS_5:%=.venv-%/.ready-$(KEY))
endif

.venv-%/.ready-$(KEY):
	@echo "Setting up .venv-$* with $$($(PYTHON_5) --version): Blender $*'s Python module, about 1 GB."
	@$(PYTHON_5) -m venv .venv-$*
	@$(call pip_install,.venv-$*) -e '.[test]' 'bpy==$*.*'
	@rm -f .venv-$*/.ready-* && touch $@

demo: setup
	@.venv/bin/trackshade demo

# Integration tests of training and evaluation, and of the server: suites of their own in `make test`.
TRAINING := $(wildcard tests/integration/test_trainer*.py tests/integration/test_training*.py tests/integration/test_evaluation*.py)
SERVER := $(wildcard tests/integration/test_server*.py)

# Kernels are compiled first, so that suites do not compile the same ones, while the other environments are made. Then five
# suites at a time, which fills two processors, since tests wait for other processes; each one's output in one piece; all
# of them run even where one fails.
test: setup
	-@$(MAKE) -k -j3 --output-sync=target compile setup-5
	@echo "Running the tests, five suites at a time; each tells at its end."
	@$(MAKE) -k -j5 --output-sync=target LEFT_OUT='$(patsubst %,--ignore=%,$(TRAINING) $(SERVER))' NOT_ONCE='$(if $(and $(PYTHON_4),$(PYTHON_5),$(NOT_LONG)),and not once)' \
	test-bpy-5.3 test-bpy test-unit test-server test-integration test-training test-bpy-5.2

# Tests that compile most kernels, for all suites: they keep compiled code beside the source. Two halves at a time.
KERNELS_1 := propagation_frames tracking tracking_parts
KERNELS_2 := parts propagation_fills cells result texture motion_pipeline
KERNEL_TESTS := same_as_rays or camera_is_solved or boxes_say or helper_draws or copy_known_colors or gain_and_offset or fills_up or by_itself or reference_figure
compile: compile-1 compile-2
compile-1 compile-2: compile-%: setup
	@OMP_NUM_THREADS=1 .venv/bin/python $(PYTEST) $(KERNELS_$*:%=tests/unit/test_%.py) -k "$(KERNEL_TESTS)"

test-fast: setup
	@OMP_NUM_THREADS=1 .venv/bin/python $(PYTEST) tests/unit -m "not slow"

test-all:
	@$(MAKE) test NOT_LONG=

test-unit test-integration: test-%:
	@echo "tests/$* on $$(.venv/bin/python --version)" && OMP_NUM_THREADS=1 .venv/bin/python $(PYTEST) -m "$(NOT_LONG)" $(LEFT_OUT) tests/$*

test-training test-server: test-%:
	@echo "tests/integration: $*" && OMP_NUM_THREADS=1 .venv/bin/python $(PYTEST) -m "$(NOT_LONG)" $(if $(filter training,$*),$(TRAINING),$(SERVER))

test-bpy:
	@echo "tests/blender on bpy $$(.venv/bin/pip show bpy | sed -n 's/^Version: //p')" && OMP_NUM_THREADS=1 .venv/bin/python $(PYTEST) -m "$(strip $(NOT_LONG) $(NOT_ONCE))" tests/blender

test-bpy-5.2: SELECTED := smoke
test-bpy-5.3: SELECTED = $(NOT_LONG)
test-bpy-5.2 test-bpy-5.3: test-bpy-%:
	$(if $(and $(PYTHON_4),$(PYTHON_5)),@$(MAKE) .venv-$*/.ready-$(KEY))
	@if [ -e .venv-$*/.ready-$(KEY) ]; then echo "tests/blender on bpy $$(.venv-$*/bin/pip show bpy | sed -n 's/^Version: //p')" \
	&& OMP_NUM_THREADS=1 TRACKSHADE_PYTHON=$(CURDIR)/.venv/bin/python .venv-$*/bin/python $(PYTEST) -m "$(SELECTED)" tests/blender; fi

# Slower than `make test` by about half; COVERED=tests/unit measures one suite.
COVERED := tests/unit tests/integration tests/blender
coverage: setup
	@rm -rf build/coverage && mkdir -p build/coverage
	@OMP_NUM_THREADS=1 .venv/bin/coverage run $(PYTEST) $(COVERED)
	@.venv/bin/coverage combine -q
	@.venv/bin/coverage report | tee build/coverage/report.txt | tail -n 1

bench: setup
	@.venv/bin/python tests/benchmarks/run.py

campaigns: setup
	@OMP_NUM_THREADS=1 .venv/bin/python tests/campaigns/run.py

lint: setup
	@.venv/bin/ruff check backend addon tests
	@.venv/bin/ruff format --check -q backend addon tests
	@.venv/bin/pyright --warnings $(CHECKED)

# As stated in the model's card, backend/trackshade/models/mini/README.md. The budget is time: see there.
MINI := runs/mini
MINI_MINUTES := 86
MAKE_DATA := .venv/bin/trackshade train data
mini: setup
	@$(MAKE_DATA) $(MINI)/data/clips --count 4000 --processes 2
	@$(MAKE_DATA) $(MINI)/data/stills --count 16000 --first-seed 500000 --frames 1 --processes 2
	@$(MAKE_DATA) $(MINI)/data/rendered --rendered --count 100 --engine workbench
	@$(MAKE_DATA) $(MINI)/data/rendered --rendered --count 60 --engine cycles --first-seed 1000
	@PYTHONSAFEPATH=1 OMP_NUM_THREADS=1 .venv/bin/accelerate launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no \
	--dynamo_backend no -m trackshade_lab.training --device cpu \
	--out $(MINI) --data $(MINI)/data --token 3 --text-length 32 --terminal 0.9 --one-frame 0.4 --named 0.85 \
	--text-steps 1000 --pooled-text true --batch 2 --mirror true --sparse-tracks 0.1 --track-dropout 0.06 \
	--clip-norm 0.05 --track-correction 0.1 --average 0.995 --matrix-rate 1.3e-3 --other-rate 1.3e-3 --warmup 50 \
	--threads 1 --minutes $(MINI_MINUTES)

# Many cameras: see backend/trackshade/models/mini-matrix/README.md.
MINI_MATRIX := runs/mini-matrix
mini-matrix: setup
	@PYTHONSAFEPATH=1 OMP_NUM_THREADS=1 .venv/bin/python -m trackshade_lab.training multiview --out $(MINI_MATRIX) \
	--device cpu --threads 1 --minutes 66

# Motion from footage: see backend/trackshade/models/mini-motion/README.md. The first run is what the second compares with.
MINI_MOTION := runs/mini-motion
TRAIN_MOTION := PYTHONSAFEPATH=1 OMP_NUM_THREADS=1 .venv/bin/python -m trackshade_lab.training motion --device cpu --threads 1
mini-motion: setup
	@$(TRAIN_MOTION) --out $(MINI_MOTION)/baselines --sources baselines --steps 6000
	@$(TRAIN_MOTION) --out $(MINI_MOTION)/run --steps 30000 --generator-steps 7000 --baselines $(MINI_MOTION)/baselines

docs: setup
	@.venv/bin/pdoc -d google --no-show-source -o build/docs trackshade
	@echo "build/docs/index.html"

extension: setup
	@.venv/bin/python addon/tools/build_extension.py

clean:
	rm -rf build dist demo
