#!/usr/bin/env bash
# Everything that waits for a GPU, in at most 9 minutes: bash experiments/gpu/run.sh OUT [--rehearse]
set -u
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python=${PYTHON:-python3}
if compgen -G 'experiments/gpu/wheels/*.whl' > /dev/null; then
  "$python" -m pip install --quiet --no-index --no-deps --target "$work/site" experiments/gpu/wheels/*.whl
fi
export PYTHONPATH="$PWD:$PWD/tests:$work/site${PYTHONPATH:+:$PYTHONPATH}" NO_ALBUMENTATIONS_UPDATE=1 OMP_NUM_THREADS=1
"$python" experiments/gpu/drive.py --work "$work" "$@"
