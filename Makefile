# Deep binary hashing on BVLC Caffe. `make train` is the main job, `make help` tells the rest.

# ---- what to do; every variable can be given on the command line ---------------------------------
DATASET   ?= mnist
BITS      ?= 48
NET       ?= $(if $(filter mnist fashion_mnist digits,$(DATASET)),lenet,alexnet)
METHOD    ?= ssdh
DEVICE    ?= auto
ITERS     ?=
BATCH     ?=
WEIGHTS   ?=
SEED      ?= $(if $(filter kevinnet,$(METHOD)),-1,42)
SUBSET    ?=
ALPHA     ?= 1
BETA      ?= 1
GAMMA     ?= 1
IMAGES    ?=
PICTURES  ?= $(if $(filter folder sun397 yahoo1m,$(DATASET)),,$(IMAGES))
OUT       ?=
SKIP      ?=
QUERIES   ?=
DATA_ROOT ?= data
RUNS      ?= runs
run_name   = $(if $(filter folder,$(DATASET)),folder-$(notdir $(abspath $(IMAGES))),$(DATASET))-$(NET)$(if $(filter-out ssdh,$(METHOD)),-$(METHOD))$(if $(filter-out finetune,$(METHOD)),-$(1))
RUN       ?= $(call run_name,$(firstword $(BITS)))
RELEASED  ?=
RELEASED_DEPLOY ?=
LIST      ?=
FEATURES  ?=
QUERY     ?=
TOP       ?= 10
CATEGORY  ?=
FINE      ?=
RADIUS    ?= 2
GRID      ?=
JSON      ?=
INDEX     ?=
ADD       ?=
LABEL     ?=
REMOVE    ?=
# not ?=: shells set HOST to this machine's name
HOST       = 127.0.0.1
PORT       = 7860
CIFAR10_ARCHIVE ?=
ENCODING  ?=
WORKERS   ?=
SCHEDULER ?=
CAFFE_PREFIX ?= $(CURDIR)/.caffe

export CAFFE_PREFIX
export SSDH_COMMAND = make $(MAKECMDGOALS) $(MAKEOVERRIDES)
export GLOG_minloglevel ?= 0

# a path as the shell takes it, whatever signs are in it
q       = '$(subst ','\'',$(1))'
PYTHON  := .venv/bin/python
FOLDER  := $(RUNS)/$(RUN)
# a net of METHOD=finetune has no codes: features.h5 stands in for codes.h5, and the accuracy is all
CODES   := $(FOLDER)/$(if $(filter finetune,$(METHOD)),features,codes).h5
LAST    := $(FOLDER)/$(if $(filter finetune,$(METHOD)),metrics.json,report.html)
OPTIONS = --dataset '$(DATASET)' --net '$(NET)' --method '$(METHOD)' --bits '$(BITS)' --run '$(FOLDER)' \
          --data-root $(call q,$(DATA_ROOT)) --images $(call q,$(IMAGES)) --cifar10-archive $(call q,$(CIFAR10_ARCHIVE)) \
          --device '$(DEVICE)' --iters '$(ITERS)' --batch '$(BATCH)' --seed '$(SEED)' \
          --subset '$(SUBSET)' --weights $(call q,$(WEIGHTS)) --alpha '$(ALPHA)' --beta '$(BETA)' --gamma '$(GAMMA)'

CLUSTER := $(if $(SCHEDULER),--scheduler '$(SCHEDULER)')$(if $(WORKERS), --workers '$(WORKERS)')

# ---- what make itself would take wrongly -----------------------------------------------------------
$(foreach flag,FEATURES FINE JSON SKIP,$(if $(filter-out 1,$($(flag))),$(error $(flag)=$($(flag)) is not known: it is 1, or left out)))
ifneq ($(words $(RUNS)) $(words $(RUN)),1 1)
  $(error the folder of the run is RUNS/RUN, '$(RUNS)/$(RUN)': each must be one word; choose RUN=name)
endif
ifneq ($(strip $(foreach sign,: % ' " ;,$(findstring $(sign),$(FOLDER)))),)
  $(error the folder of the run, $(FOLDER), has one of : ; % ' " in its name: choose RUN=name)
endif

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help venv caffe data train codes eval report index search compare baselines paper \
        clean-run test lint weights caffe-test bench-train bench-data bench-builds bench-eval \
        bench-scale bench-distance bench-search same-run
.PHONY: serve bench-serve gpu-check image shell image-test

# ---- set-up ---------------------------------------------------------------------------------------
venv:                ## make .venv with the pinned requirements
	@tools/setup/make_venv.sh

caffe: venv          ## build BVLC Caffe from source into .caffe (CAFFE_PREFIX=, CAFFE_SRC=)
	@tools/setup/install_caffe.sh

# ---- the stages of a run, each from the file before it ----------------------------------------------
data: caffe          ## the data set's LMDBs, into DATA_ROOT
	@$(PYTHON) -m tools.data $(OPTIONS) --encoding '$(ENCODING)' --skip '$(SKIP)'

train: data          ## the main job: data, training, codes, metrics, report
	@$(PYTHON) -m tools.train $(OPTIONS)
	@$(MAKE) -s --no-print-directory $(LAST)
	@echo "$(if $(filter finetune,$(METHOD)),the accuracy is in,the report is) $(LAST)"

same-run: caffe      # the later stages work on a trained run, and only on the one that was asked for
	@$(PYTHON) -m tools.train --check $(OPTIONS)

ifneq ($(PICTURES),)
codes: caffe         # of any pictures, by a run's net or by the caffemodel WEIGHTS
	@$(PYTHON) -m tools.codes.pictures $(OPTIONS) --pictures $(call q,$(PICTURES)) --out $(call q,$(OUT)) $(if $(filter 1,$(SKIP)),--skip)
else
codes: same-run      ## codes of a trained run (FEATURES=1), or of any pictures (IMAGES=, WEIGHTS=)
	@$(MAKE) -s --no-print-directory $(CODES) $(if $(FEATURES),$(FOLDER)/features.h5)
endif

eval: same-run       ## metrics of a trained run (QUERIES=100: of so many queries a class)
	@$(MAKE) -s --no-print-directory $(FOLDER)/metrics$(if $(QUERIES),-q$(QUERIES)-k1000).json

report: same-run     ## the page of a trained run
	@$(MAKE) -s --no-print-directory $(LAST)

index: same-run      ## the search index of a trained run (INDEX=, ADD=, REMOVE=)
	@$(MAKE) -s --no-print-directory $(CODES)
	@OMP_WAIT_POLICY=passive $(PYTHON) -m tools.search.index $(OPTIONS) --kind '$(INDEX)' --remove $(call q,$(REMOVE))
	$(if $(ADD),@$(PYTHON) -m tools.search.add $(OPTIONS) --add $(call q,$(ADD)) --label $(call q,$(LABEL)))

search: same-run     ## the pictures nearest to QUERY=photo.jpg (TOP=, CATEGORY=, FINE=1, GRID=, JSON=1)
	@$(MAKE) -s --no-print-directory $(if $(FINE),$(FOLDER)/features.h5) $(FOLDER)/index.h5 >&2
	@$(PYTHON) -m tools.search $(OPTIONS) --query $(call q,$(QUERY)) --top '$(TOP)' --json '$(JSON)' \
	  --category $(call q,$(CATEGORY)) --fine '$(FINE)' --radius '$(RADIUS)' --grid $(call q,$(GRID))

serve: same-run      ## a page and a JSON API to search a trained run (PORT=, HOST=)
	@$(MAKE) -s --no-print-directory $(if $(FEATURES),$(FOLDER)/features.h5) $(FOLDER)/index.h5
	@$(PYTHON) -m tools.serve $(OPTIONS) --host '$(HOST)' --port '$(PORT)' --radius '$(RADIUS)'

EVALUATE = $(PYTHON) -m $(if $(filter finetune,$(METHOD)),eval.classification,$(if $(CLUSTER),tools.evaluate $(CLUSTER),eval))

$(FOLDER)/codes.h5: $(FOLDER)/model.caffemodel
	@$(PYTHON) -m tools.codes $(OPTIONS) $(CLUSTER) $(if $(FEATURES),--features)

$(FOLDER)/features.h5: $(FOLDER)/model.caffemodel
	@$(PYTHON) -m tools.codes $(OPTIONS) $(CLUSTER) --features

$(FOLDER)/index.h5: $(CODES)
	@OMP_WAIT_POLICY=passive $(PYTHON) -m tools.search.index $(OPTIONS) --kind '$(INDEX)'

$(FOLDER)/metrics.json: $(CODES)
	@$(EVALUATE) $<

$(FOLDER)/metrics-q$(QUERIES)-k1000.json: $(CODES)
	@$(EVALUATE) $< --queries '$(QUERIES)'

$(FOLDER)/report.html: $(FOLDER)/metrics.json
	@$(PYTHON) -m tools.report $(OPTIONS)

baselines: venv      ## other hashing methods on a run's features (RUN= of METHOD=finetune, BITS="32 48")
	@$(PYTHON) -m eval.baselines '$(FOLDER)' --bits $(BITS)

paper: caffe         ## the paper's tables and figures from all runs in RUNS, into RUNS/paper
	@$(PYTHON) -m tools.paper --runs '$(RUNS)'

# the runs that stand beside the released models, one for each code length
TRAINED  = $(if $(filter file,$(origin RUN)),$(foreach bits,$(BITS),'$(RUNS)/$(call run_name,$(bits))'),'$(FOLDER)')
compare: caffe       ## published | released (twice) | trained here, for METHOD and BITS="12 32 48"
	@$(PYTHON) -m tools.compare $(OPTIONS) --out '$(RUNS)/compare-$(DATASET)-$(NET)-$(METHOD)' --trained $(TRAINED) \
	  --released $(call q,$(RELEASED)) --released-deploy $(call q,$(RELEASED_DEPLOY)) --list $(call q,$(LIST))

clean-run:           ## remove the run's folder
	@[ -e '$(FOLDER)/run.json' ] || [ -d '$(FOLDER)/snapshots' ] || [ ! -e '$(FOLDER)' ] || \
	  { echo "error: $(FOLDER) has no run.json, so it is no run: remove it by hand" >&2; exit 1; }
	rm -rf '$(FOLDER)'

weights: caffe       ## fetch and verify the pretrained weights of NET
	@$(PYTHON) -m tools.net.weights '$(NET)'

# ---- checks -----------------------------------------------------------------------------------------
lint: venv           ## ruff: lint and format; hadolint: the Dockerfile
	@$(PYTHON) -m ruff check . && $(PYTHON) -m ruff format --check .
	@.venv/bin/hadolint --config .hadolint.yaml Dockerfile

test: caffe lint     ## style and tests
	@$(PYTHON) -m pytest

gpu-check: caffe     ## a GPU beside the CPU: every layer of every net, a training step, its speed
	@$(PYTHON) -m tools.setup.gpu_check --device '$(DEVICE)'

caffe-test: caffe    ## BVLC's own C++ tests on this build (long)
	@tools/setup/install_caffe.sh test

bench-train: caffe   ## the training loop beside `caffe train`
	@$(PYTHON) -m tools.bench.train

bench-data: caffe    ## the LMDB writer beside convert_imageset
	@$(PYTHON) -m tools.bench.data $(if $(CIFAR10_ARCHIVE),--archive $(call q,$(CIFAR10_ARCHIVE)))

bench-builds: caffe  ## SUN397 and Yahoo-1M at their real size, generated: time, memory, disk, kills
	@$(PYTHON) -m tools.bench.builds $(or $(filter sun397 yahoo1m,$(DATASET)),sun397 yahoo1m) --root $(call q,$(DATA_ROOT))

bench-eval: venv     ## the evaluator beside scikit-learn, FAISS and argsort
	@$(PYTHON) -m eval.bench.evaluator

bench-scale: venv    ## the evaluator at Yahoo-1M's size
	@$(PYTHON) -m eval.bench.scale

bench-search: same-run ## the index's kinds at 1 and 10 million codes like a trained run's, and make search
	@$(MAKE) -s --no-print-directory $(FOLDER)/index.h5
	@$(PYTHON) -m tools.bench.search $(OPTIONS)

bench-distance: venv ## Hamming beside Euclidean distance, and this machine's limits
	@$(PYTHON) -m eval.bench.distance

bench-serve: same-run ## the JSON API of a trained run under 1, 8 and 32 clients
	@$(MAKE) -s --no-print-directory $(FOLDER)/index.h5
	@$(PYTHON) -m tools.bench.serve $(OPTIONS)

# ---- the CUDA image -----------------------------------------------------------------------------------
image:               ## build it by Docker, Podman or buildah (USE_CUDNN=1, CUDA_ARCHS=, BUILD_FLAGS=)
	@tools/setup/image.sh build

shell:               ## a shell in it, with data, runs and weights of this folder
	@tools/setup/image.sh shell

image-test:          ## the tests in it, on the CPU
	@tools/setup/image.sh test

help:                ## this page
	@echo "make TARGET [VARIABLE=value ...]"; echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20
	@echo; echo "variables and their defaults"
	@printf '  %-16s %s\n' \
	  DATASET '$(DATASET)  (mnist, fashion_mnist, cifar10, sun397, yahoo1m, digits, folder)' \
	  BITS '$(BITS)  (8 to 1024)' \
	  NET '$(NET)  (lenet, cifar_small, alexnet, vgg16, vgg16_avg; by DATASET)' \
	  METHOD '$(METHOD)  (ssdh; kevinnet: CVPRW 2015; finetune: a classifier and no codes)' \
	  DEVICE '$(DEVICE)  (auto, cpu, gpu:N, or gpu:N,M,... for several)' \
	  ITERS "the net's own: $$(awk '/^\[nets/{gsub(/.*\.|\]/,""); n=$$0} /^iters/{printf "%s%s %s", s, n, $$3; s=", "}' prototxt/nets.toml)" \
	  BATCH "the net's own: $$(awk '/^\[nets/{gsub(/.*\.|\]/,""); n=$$0} /^batch/{printf "%s%s %s", s, n, $$3; s=", "}' prototxt/nets.toml)" \
	  WEIGHTS "the net's own: $$(awk '/^\[nets/{gsub(/.*\.|\]/,""); n=$$0} /^weights = /{gsub(/"/,""); printf "%s%s %s", s, n, $$3; s=", "}' prototxt/nets.toml); or a path, or none" \
	  SEED '$(SEED)' \
	  SUBSET 'all pictures  (or N, evenly spaced, of each split)' \
	  ALPHA,BETA,GAMMA '$(ALPHA), $(BETA), $(GAMMA)  (weights of classification, binarization, balance)' \
	  IMAGES 'none  (the folder of DATASET=folder, sun397 and yahoo1m; else what make codes encodes)' \
	  PICTURES 'IMAGES, but for those three  (what make codes encodes: a list, a folder, a picture)' \
	  OUT '$(RUNS)/pictures/...  (the folder for the codes of PICTURES)' \
	  SKIP 'none  (1: leave unreadable pictures out, counted)' \
	  QUERIES 'all  (make eval: so many of each class)' \
	  CIFAR10_ARCHIVE 'none: the official one  (or a zip or tar of pictures)' \
	  ENCODING 'raw  (png: the same pixels in less space; jpeg: a departure, for sun397 and yahoo1m)' \
	  FEATURES 'none  (1: make codes writes features.h5 too, make serve offers fine search)' \
	  RELEASED "what can be downloaded  (or a released caffemodel, or a folder with some)" \
	  RELEASED_DEPLOY "NET's own  (or the released deploy file of RELEASED)" \
	  LIST "DATASET's own order  (or the folder of the release's list files)" \
	  QUERY,TOP 'none, $(TOP)  (a picture, and how many like it make search lists)' \
	  CATEGORY 'all  (make search: pictures of this class alone)' \
	  FINE,RADIUS 'none, $(RADIUS)  (FINE=1: those within RADIUS bits, by distance of their features)' \
	  GRID,JSON 'none  (a PNG to draw the pictures into; 1: print JSON)' \
	  INDEX 'by size  (flat: exact; ivf, multihash: approximate)' \
	  ADD,LABEL 'none  (make index: a picture or folder to add, and its class)' \
	  REMOVE 'none  (make index: the key of a picture to take out, or @FILE with a key a line)' \
	  HOST,PORT '$(HOST), $(PORT)  (where make serve listens; HOST=0.0.0.0 is every address of this machine)' \
	  WORKERS "none  (N: codes and metrics on N worker processes of this machine)" \
	  SCHEDULER "none  (tcp://...: codes and metrics on a Dask cluster)" \
	  DATA_ROOT '$(DATA_ROOT)' \
	  RUNS '$(RUNS)' \
	  RUN '$(RUN)' \
	  CAFFE_PREFIX '.caffe in this folder' \
	  CAFFE_SRC "what Debian's mirror has  (or a source tree or tarball to build Caffe from)" \
	  CUDA_ARCHS '60 61 70 75 80 86 89 90  (compute capabilities of a CUDA build)' \
	  USE_NCCL,USE_CUDNN '0, 0; in the image 1, 0  (1: a CUDA build for several GPUs; with cuDNN)' \
	  BUILD_FLAGS 'none  (further flags of the build of make image)'
