# Deep binary hashing on BVLC Caffe. `make train` is the main job, `make help` tells the rest.

# ---- the variables: declared in tools/run/variables.txt, and nowhere else ---------------------------
# What a person gave reaches the commands by the environment, as it is, as SSDH_<NAME>: no shell reads it,
# and make expands it neither here nor when it exports it, whatever signs are in it.
TABLE     := tools/run/variables.txt
VARIABLES := $(shell sed -n 's/^\([A-Z][A-Z0-9_]*\) .*/\1/p' $(TABLE))
SCRIPTS   := $(shell sed -n 's/^\([A-Z][A-Z0-9_]*\)  *-  *script .*/\1/p' $(TABLE))
# not from the environment: shells set HOST to this machine's name
given      = $(filter command override $(if $(filter HOST PORT,$(1)),,environment),$(firstword $(origin $(1))))
$(foreach name,$(VARIABLES),$(if $(call given,$(name)),$(eval override $(name) := $$(value $(name)))))
$(foreach name,$(filter-out $(SCRIPTS),$(VARIABLES)),$(if $(call given,$(name)),\
  $(eval SSDH_$(name) := $$($(name)))$(eval export SSDH_$(name)),$(eval unexport SSDH_$(name))))
export $(SCRIPTS)
export SSDH_COMMAND = make $(MAKECMDGOALS)
export GLOG_minloglevel ?= 0

PYTHON := .venv/bin/python

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help venv caffe data train codes eval report index search serve export baselines leaderboard paper \
        compare clean-run weights lint test test-fast faults fuzz gpu-check caffe-test bench-train bench-data bench-builds \
        bench-eval bench-scale bench-search bench-distance bench-serve bench-export image shell image-test

# ---- set-up ---------------------------------------------------------------------------------------
venv:                ## make .venv with the pinned requirements
	@tools/setup/make_venv.sh

caffe: venv          ## build BVLC Caffe from source into .caffe (CAFFE_PREFIX=, CAFFE_SRC=)
	@tools/setup/install_caffe.sh

# ---- the stages of a run, each from the file before it ----------------------------------------------
data: caffe          ## the data set's LMDBs, into DATA_ROOT
	@$(PYTHON) -m tools.data

train: data          ## the main job: data, training, codes, metrics, report
	@$(PYTHON) -m tools.train
	@$(PYTHON) -m tools.stages report

codes: caffe         ## codes of a trained run (FEATURES=1), or of any pictures (IMAGES=, WEIGHTS=)
	@$(PYTHON) -m tools.stages codes

eval: caffe          ## metrics of a trained run (QUERIES=100: of so many queries a class)
	@$(PYTHON) -m tools.stages eval

report: caffe        ## the page of a trained run
	@$(PYTHON) -m tools.stages report

index: caffe         ## the search index of a trained run (INDEX=, ADD=, REMOVE=)
	@$(PYTHON) -m tools.stages search
	@OMP_WAIT_POLICY=passive $(PYTHON) -m tools.search.indexing

search: caffe        ## the pictures nearest to QUERY=photo.jpg (TOP=, CATEGORY=, FINE=1, GRID=, JSON=1)
	@$(PYTHON) -m tools.stages search
	@$(PYTHON) -m tools.search

serve: caffe         ## a page and a JSON API to search a trained run (PORT=, HOST=)
	@$(PYTHON) -m tools.stages serve
	@$(PYTHON) -m tools.serve

export: caffe        ## a trained run's net, or WEIGHTS, for where there is no Caffe (INT8=1)
	@$(PYTHON) -m tools.stages export
	@$(PYTHON) -m tools.export

baselines: venv      ## other hashing methods on a run's features (METHOD=finetune, BITS="32 48", BASELINES="bre mlh")
	@$(PYTHON) -m tools.baselines

leaderboard: data    ## all methods at BITS="12 24 32 48" in one table; trains and learns what is missing
	@$(PYTHON) -m tools.leaderboard

paper: caffe         ## the paper's tables and figures from all runs in RUNS, into RUNS/paper
	@$(PYTHON) -m tools.paper

compare: caffe       ## published | released (twice) | trained here, for METHOD and BITS="12 32 48"
	@$(PYTHON) -m tools.compare

clean-run: venv      ## remove the run's folder
	@$(PYTHON) -m tools.clean_run

weights: caffe       ## fetch and verify the pretrained weights of NET
	@$(PYTHON) -m tools.net

# ---- checks -----------------------------------------------------------------------------------------
lint: venv           ## ruff: lint and format; hadolint: the Dockerfile
	@$(PYTHON) -m ruff check . && $(PYTHON) -m ruff format --check .
	@.venv/bin/hadolint --config .hadolint.yaml Dockerfile

test: caffe lint     ## style and tests
	@$(PYTHON) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-fast: caffe lint ## style and the tests that train nothing, a minute
	@$(PYTHON) -m pytest -n 2 --dist loadfile -m "not slow"

faults: caffe        ## kills, full and broken disks in every stage, all bad inputs; 45 minutes
	@$(PYTHON) -m pytest -q tests/test_bad_inputs.py --all-bad-inputs
	@$(PYTHON) -m tools.faults

fuzz: caffe          ## every file that is read, damaged, seeded; minutes
	@$(PYTHON) -m tools.faults.fuzz

gpu-check: caffe     ## a GPU beside the CPU: every layer of every net, a training step, its speed
	@$(PYTHON) -m tools.setup.gpu_check

caffe-test: caffe    ## BVLC's own C++ tests on this build (long)
	@tools/setup/install_caffe.sh test

bench-train: caffe   ## the training loop beside `caffe train` and PyTorch (NET=: one net alone)
	@$(PYTHON) -m tools.bench.train

bench-data: caffe    ## the LMDB writer beside convert_imageset
	@$(PYTHON) -m tools.bench.data

bench-builds: caffe  ## SUN397, Yahoo-1M, NUS-WIDE and MS COCO at their real size, generated: time, memory, disk, kills
	@$(PYTHON) -m tools.bench.builds

bench-eval: venv     ## the evaluator beside scikit-learn, FAISS and argsort
	@$(PYTHON) -m eval.bench.evaluator

bench-scale: venv    ## the evaluator at Yahoo-1M's size
	@$(PYTHON) -m eval.bench.scale

bench-search: caffe  ## the index's kinds at 1 and 10 million codes like a trained run's, and make search
	@$(PYTHON) -m tools.stages search
	@$(PYTHON) -m tools.bench.search

bench-distance: venv ## Hamming beside Euclidean distance, and this machine's limits
	@$(PYTHON) -m eval.bench.distance

bench-serve: caffe   ## the JSON API of a trained run under 1, 8 and 32 clients
	@$(PYTHON) -m tools.stages search
	@$(PYTHON) -m tools.bench.serve

bench-export: caffe  ## a trained run's net by Caffe, ONNX Runtime, OpenCV, in 8 bits; the service by either engine
	@$(PYTHON) -m tools.stages export
	@$(PYTHON) -m tools.export --int8 1
	@$(PYTHON) -m tools.bench.export

# ---- the CUDA image -----------------------------------------------------------------------------------
image:               ## build it by Docker, Podman or buildah (USE_CUDNN=1, CUDA_ARCHS=, BUILD_FLAGS=)
	@tools/setup/image.sh build

shell:               ## a shell in it, with data, runs and weights of this folder
	@tools/setup/image.sh shell

image-test:          ## the tests in it, on the CPU
	@tools/setup/image.sh test

# names in the tables, for this page
DATASETS = $(shell sed -n 's/^    Entry."\([a-z0-9_]*\)".*/\1/p' data_prep/datasets.py)
NETS     = $(shell sed -n 's/^\[nets\.\([a-z0-9_]*\)\]$$/\1/p' prototxt/nets.toml)
METHODS  = $(shell sed -n 's/^\[\([a-z0-9_]*\)\]$$/\1/p' prototxt/methods.toml)
LOSSES   = $(shell sed -n 's/^\[\([a-z0-9_]*\)\]$$/\1/p' prototxt/classification.toml)

help:                ## this page
	@echo "make TARGET [VARIABLE=value ...]"; echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 20
	@echo; echo "variables, their defaults, and what they are"
	@sed -n 's/^\([A-Z][A-Z0-9_]*\)  *\([^ ]*\)  *[^ ]*  *\(.*\)/  \1\t\2\t\3/p' $(TABLE) | expand -t 19,31 \
	  | sed 's/@datasets/$(DATASETS)/; s/@nets/$(NETS)/; s/@methods/$(METHODS)/; s/@losses/$(LOSSES)/'
