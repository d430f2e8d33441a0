#!/usr/bin/env bash
# Everything that needs a GPU, in one command, in under nine minutes and without a network.
#
#   OUT=results benchmarks/gpu.sh [--device cuda|cpu] [STAGE ...]      stages: build tests operators steps profile (all); tune
#
# tune is run when named, in nine minutes of its own: it times the tiles of Triton kernels and writes OUT/tiles.json, what the
# package has included. To adopt them:
#
#   python -m gancore.benchmarks.tune --adopt OUT/tiles.json
#
# It needs Python 3.12 with torch 2.11 and Triton 3.6, pytest for the tests, a C++ compiler for the extension; nothing of gancore has
# to be installed. What a stage says goes to OUT/STAGE.log; a stage that fails does not stop the others, and the exit code tells.
# PYTHON names the interpreter. Each stage has a limit in seconds, together 490 without tune: what is cut off has written its rows
# so far.
set -u
cd "$(dirname "$0")/.."
OUT=${OUT:-$PWD/gpu-results}
PYTHON=${PYTHON:-python3}
DEVICE=cuda
STAGES=()
while [ $# -gt 0 ]; do
  case $1 in
    --device) DEVICE=${2:?--device wants cuda or cpu}; shift 2 ;;
    build | tests | operators | steps | profile | tune) STAGES+=("$1"); shift ;;
    *) echo "gpu.sh: unknown stage $1; there are build tests operators steps profile tune" >&2; exit 2 ;;
  esac
done
[ ${#STAGES[@]} -gt 0 ] || STAGES=(build tests operators steps profile)
mkdir -p "$OUT" || exit 1
OUT=$(cd "$OUT" && pwd)
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
QUICK=()
[ "$DEVICE" = cuda ] || QUICK=(--quick)

native() { "$PYTHON" -c 'from gancore.doctor import findings; import sys; sys.exit(not next(f.ok for f in findings() if f.part == "native kernels"))'; }
# In place: the extension lands beside the source, which PYTHONPATH names. Where it is there and loads, it is kept.
build() { native || "$PYTHON" setup.py --quiet build_ext --inplace && native; }
tests() { "$PYTHON" -m pytest -q -m gpu -p no:cacheprovider tests; }
measure() { "$PYTHON" -m gancore.benchmarks.operators --device "$DEVICE" ${QUICK[@]+"${QUICK[@]}"} --out "$OUT/$1.json" "${@:2}"; }
rows() { "$PYTHON" -c 'import sys; from gancore.benchmarks import operators, steps; print(*(f"--row {n}" for n in operators.names() if (n in steps.STEPS) == (sys.argv[1] == "steps")))' "$1"; }
operators() { local of; of=$(rows operators) && measure operators $of; }
steps() { local of; of=$(rows steps) && measure steps $of; }
tune() { "$PYTHON" -m gancore.benchmarks.tune --device "$DEVICE" --out "$OUT/tiles.json"; }
# The command line needs packages of gancore[train], which a machine without a network may lack.
profile() {
  "$PYTHON" -c 'import click, jinja2' || { echo "left out: click and jinja2 are not installed"; return 0; }
  "$PYTHON" -m gancore profile wgan-gp --data shapes16 --device "$DEVICE" $([ "$DEVICE" = cuda ] && echo --measure 20 || echo --measure 3 --width 16) --out "$OUT/profile"
}

declare -A LIMIT=([build]=120 [tests]=120 [operators]=150 [steps]=80 [profile]=20 [tune]=520)
[ "$DEVICE" = cuda ] || LIMIT[profile]=60
export -f native build tests measure rows operators steps profile tune
export OUT PYTHON DEVICE
failed=0
summary=()
for stage in "${STAGES[@]}"; do
  start=$SECONDS
  QUICK_WORDS="${QUICK[*]-}" timeout -k 5 "${LIMIT[$stage]}" bash -c 'QUICK=($QUICK_WORDS); "$0"' "$stage" >"$OUT/$stage.log" 2>&1
  code=$?
  # Without a GPU pytest finds no test to run, and says so with 5.
  [ "$stage" = tests ] && [ "$DEVICE" = cpu ] && [ $code -eq 5 ] && code=0
  told=ok
  [ $code -eq 0 ] || { failed=1; told="exit $code"; }
  [ $code -ne 124 ] || told="stopped after ${LIMIT[$stage]} s"
  summary+=("$(printf '%-10s %-22s %4s s  %s' "$stage" "$told" $((SECONDS - start)) "$(tail -n 1 "$OUT/$stage.log" | cut -c 1-80)")")
done
for name in operators steps; do
  [ -f "$OUT/$name.json" ] && "$PYTHON" -m gancore.benchmarks.operators --table --out "$OUT/$name.json" 2>/dev/null | cut -c 1-150
done
echo "results in $OUT"
printf '%s\n' "${summary[@]}" | tee "$OUT/summary.txt"
exit $failed
