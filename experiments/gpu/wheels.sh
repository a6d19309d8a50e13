#!/usr/bin/env bash
# Download the dependencies that the GPU machine lacks to experiments/gpu/wheels (ignored by git): Python 3.12, Linux x86-64.
set -eu
cd "$(dirname "$0")"
mkdir -p wheels
python=${PYTHON:-../../.venv/bin/python}
pin() { grep -iE "^($1)==" ../../pins.txt; }
pin 'albumentations|albucore|stringzilla|simsimd|hydra-core|omegaconf|pydantic|pydantic_core|annotated-types|typing-inspection|typing_extensions' \
  > wheels/requirements.txt
"$python" -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 --implementation cp --abi cp312 --abi abi3 \
  --abi none --platform manylinux2014_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux_2_28_x86_64 --platform any \
  -d wheels -r wheels/requirements.txt
# Only published as source.
"$python" -m pip wheel --quiet --no-deps -w wheels "$(pin antlr4-python3-runtime)"
du -sh wheels
