# `make help` lists what there is. Everything runs in .venv, which is made on first use.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
# What the page and recognising need; the whole environment has it too.
LIGHT := $(if $(wildcard $(INSTALLED)),$(INSTALLED),.venv/.light)
PAGE := emodet/app/page
# What `make train` changes in the reference recipe for drawn faces: test accuracy 98.0 % [96.5, 99.2] of 400 faces after 3 min 7 s
# on two cores (AMD EPYC with avx512_bf16, nothing else running, 2026-11-28, seed 0).
BRIEFLY := preprocessing.size=48 net=residual_cnn_low_dropout optimizer=adamw scheduler=onecycle loss=soft_cross_entropy \
  callbacks=[default] trainer.max_epochs=24 logger=csv training.export=true
# The experiment for the release in DATA.
CHOOSE := import sys; from pathlib import Path; from emodet.datasets.readers import open_reader; \
  sys.excepthook = lambda kind, problem, trace: print("error:", problem, file=sys.stderr); \
  found = open_reader(Path(sys.argv[1])); \
  chosen = {"yolo": "affectnet_yolo", "ferplus": "ferplus", "affectnet_plus": "affectnet8 data=affectnet_plus"}.get( \
  found.name, "affectnet8" if "AffectNet" in found.title else ""); \
  print(chosen) if chosen else sys.exit(f"error: DATA={sys.argv[1]}: {found.title}, for which no experiment is chosen; add " \
  "EXPERIMENT=affectnet8 for AffectNet, EXPERIMENT=finetune for classes of your own; others: python -m emodet.train --help")

.DEFAULT_GOAL := help
.PHONY: help install train reproduce test test-slow test-all lint docs demo page app clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(INSTALLED)  ## make the environment for training, with the versions in pins.txt

$(INSTALLED): pyproject.toml pins.txt
	@echo "installing torch and what training needs into .venv: 8 GB, which takes minutes"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint pins.txt --editable '.[train,audit,dev,app,tensorboard,dashboards,sweep,cluster,teachers,hub,docs,timm,heic]'
# albumentations brings opencv-python-headless into the same folder: the one with windows is laid over it.
	$(BIN)/python -m pip install --quiet --constraint pins.txt --no-deps --force-reinstall opencv-python
# launcher=ray: its requirements pin an old cloudpickle and bring boto3, which it does not need here.
	$(BIN)/python -m pip install --quiet --no-deps hydra-ray-launcher==1.2.2
	$(page_if_possible)
	touch $@

.venv/.light: pyproject.toml pins.txt
	@echo "installing what recognising needs into .venv: half a gigabyte, about a minute"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
# Python compiles what is imported; compiling everything takes 30 MB more.
	$(BIN)/python -m pip install --quiet --no-compile --constraint pins.txt --editable '.[app]'
	$(page_if_possible)
	touch $@

define page_if_possible
@if command -v npm > /dev/null && $(MAKE) --no-print-directory page; then true; else \
  echo "the page in the browser is not built: \`make page\` does it, with Node.js and npm"; fi
endef

define activate_first
@test "$$VIRTUAL_ENV" = '$(CURDIR)/.venv' || echo "before these commands: source .venv/bin/activate"
endef

train: $(INSTALLED)  ## train on drawn faces for minutes, or with DATA=/path/to/AffectNet the experiment for that release
ifdef DATA
	@experiment="$(or $(EXPERIMENT),$$($(BIN)/python -c '$(CHOOSE)' '$(DATA)'))" && \
	  awk '/^# (Purpose|Data|Hardware|Expected)/ {shown = 1} /^# (Command|Recipe)|^[^#]/ {shown = 0} shown {print substr($$0, 3)}' \
	  conf/experiment/$${experiment%% *}.yaml && set -x && \
	  $(BIN)/python -m emodet.train experiment=$$experiment data.root='$(DATA)' $(OPTIONS)
else
	@echo "drawn faces, and instead of the reference recipe: $(BRIEFLY)"
	$(BIN)/python -m emodet.train experiment=baseline data=synthetic $(BRIEFLY)
endif
	$(activate_first)

# Trains the shipped models: a teacher, two nets that it teaches, the default net that these teach, and the net `accurate` in two
# stages. Finished stages are skipped, an interrupted one is resumed.
REPRODUCED := outputs/reproduced
comma := ,
STAGE = $(REPRODUCED)/$(1)/weights.pt
stage = $(BIN)/python -m emodet.train --config-dir experiments/ferplus/conf $(if $(wildcard $(@D)/checkpoints/last.ckpt),resume='$(@D)',experiment=ferplus_$(1) \
  data.root='$(FERPLUS)' hydra.run.dir='$(@D)' $(2) $(OPTIONS))
export_net = $(BIN)/python -m emodet.export checkpoint=$(REPRODUCED)/$(1)/weights.pt data=ferplus data.root='$(FERPLUS)' output=$(REPRODUCED)/model

reproduce: $(INSTALLED)  ## retrain the shipped models from FERPLUS=/path/to/ferplus, in minutes on a GPU, and export them
	@test -n '$(FERPLUS)' || { echo "make reproduce FERPLUS=/path/to/ferplus: say where the FER+ files are" >&2; exit 1; }
	$(MAKE) --no-print-directory $(call STAGE,student) $(call STAGE,accurate)
	$(call export_net,student)
	$(call export_net,accurate) name=emodet-accurate formats=[int8]

$(call STAGE,teacher):
	$(call stage,teacher)

$(call STAGE,again): $(call STAGE,teacher)
	$(call stage,again,net.pretrained=false init_from=$< 'distillation.teachers=[$<]')

$(call STAGE,again_dlib): $(call STAGE,teacher)
	$(call stage,again,'distillation.teachers=[$<]' seed=1)

$(call STAGE,student): $(call STAGE,again) $(call STAGE,again_dlib)
	$(call stage,student,'distillation.teachers=[$(subst $() ,$(comma),$^)]')

$(REPRODUCED)/package/models/faceres.bin:
	mkdir -p $(REPRODUCED) && cd $(REPRODUCED) && npm pack --silent @vladmandic/human@3.3.6 && tar -xzf vladmandic-human-3.3.6.tgz

$(call STAGE,accurate_first): $(call STAGE,again) $(REPRODUCED)/package/models/faceres.bin
	$(call stage,accurate,'distillation.teachers=[$<]' net.pretrained=$(lastword $^))

$(call STAGE,accurate): $(call STAGE,accurate_first) $(call STAGE,again)
	$(call stage,accurate,init_from=$< 'distillation.teachers=[$(subst $() ,$(comma),$^)]' trainer.max_epochs=24)

test: $(INSTALLED)  ## run the tests that take seconds
	$(BIN)/python -m pytest -m "not slow" --numprocesses 2 --dist loadfile

test-slow: $(INSTALLED)  ## run the tests that take minutes
	$(BIN)/python -m pytest -m slow --numprocesses 2 --dist loadfile

test-all: test test-slow  ## run all tests

lint: $(INSTALLED)  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(INSTALLED)  ## build the documentation as a static folder, site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

demo: $(LIGHT)  ## recognise emotions in a portrait, without torch
	$(BIN)/python -m emodet demo
	$(activate_first)

page: $(PAGE)/runtime/$(if $(WEBGPU),ort-webgpu,ort).js  ## get what the page runs with in the browser (needs Node.js with npm); WEBGPU=1 adds WebGPU

$(PAGE)/runtime/ort.js $(PAGE)/runtime/ort-webgpu.js: $(PAGE)/package-lock.json $(PAGE)/gather.mjs
	@command -v npm > /dev/null || { echo "make page needs Node.js 18 or newer with npm: nodejs.org, or apt install nodejs npm" >&2; exit 1; }
	cd $(PAGE) && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error && npm run --silent build

app: $(LIGHT)  ## the page with camera, pictures and videos, in the browser
	$(BIN)/python -m emodet.app --open

clean:  ## delete the environment and caches; runs and packs stay
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build
