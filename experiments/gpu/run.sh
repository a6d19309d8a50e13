#!/usr/bin/env bash
# Run the measurements that need a GPU, in at most 9 minutes: bash experiments/gpu/run.sh OUT [--rehearse]
set -u
cd "$(dirname "$0")/../.."
work=${WORK:-$(mktemp -d)} # WORK=DIR keeps packs and runs for the next call
[[ -n ${WORK:-} ]] || trap 'rm -rf "$work"' EXIT
python=${PYTHON:-python3}
if compgen -G 'experiments/gpu/wheels/*.whl' > /dev/null && [[ ! -d $work/site ]]; then
  "$python" -m pip install --quiet --no-index --no-deps --target "$work/site" experiments/gpu/wheels/*.whl
fi
export PYTHONPATH="$PWD:$PWD/tests:$work/site${PYTHONPATH:+:$PYTHONPATH}" NO_ALBUMENTATIONS_UPDATE=1 OMP_NUM_THREADS=1
"$python" experiments/gpu/drive.py --work "$work" "$@"
