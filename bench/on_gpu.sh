#!/usr/bin/env bash
# Everything that carries a GPU figure, in about six minutes: bash bench/on_gpu.sh [FOLDER]
# Needs a Python with NumPy, CuPy, and for the later parts what powsim[lab,test] brings. Parts run one after the other,
# each with a limit of its own, and one that fails leaves the others' files.
set -uo pipefail
cd "$(dirname "$0")/.."
out=$(mkdir -p "${1:-bench/results/gpu}" && cd "${1:-bench/results/gpu}" && pwd)
export PYTHONPATH=kernels:simulator${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/many.toml" <<'TOML'
name = "many"
scenario = "published"
shards = 1
[set]
"population.web.identities" = 50_000_000
"population.api.identities" = 50_000_000
[grid]
"policy.base" = [1.0075, 1.01]
TOML

# part NAME SECONDS COMMAND...: its output after its name in the log, a line here.
part() {
  local name=$1 limit=$2 began=$SECONDS
  shift 2
  echo "== $name: $*" >>"$out/log.txt"
  timeout --signal=INT --kill-after=10 "$limit" "$@" >>"$out/log.txt" 2>&1
  echo "== $name: exit $?, $((SECONDS - began)) s" | tee -a "$out/log.txt"
}

nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,power.limit --format=csv | tee "$out/log.txt"
part check 180 python3 -m powsim_kernels.check --out "$out/check.json"
part tests 100 python3 -m pytest tests/kernels tests/simulator/test_lab_knn.py tests/simulator/test_lab_models.py \
  tests/simulator/test_engine_cuda.py -m gpu -q -n 4 --durations=8 -o filterwarnings=default
part lab 40 python3 bench/lab_device.py
part study-cuda 60 bash -c "time python3 -m powsim lab --device cuda --workers 5 --out $work/lab"
part many 30 bash -c "time python3 -m powsim sweep $work/many.toml --backend cuda --out $work/many"
part run-cuda 30 bash -c "python3 -m powsim run published --backend cuda --out $work/cuda >/dev/null 2>&1
  time python3 -m powsim run published --backend cuda --out $work/cuda2"
part run-cpu 30 bash -c "python3 -m powsim run published --backend cpu --out $work/cpu >/dev/null 2>&1
  time python3 -m powsim run published --backend cpu --out $work/cpu2"
part solvers 30 python3 -m powsim bench --quick
part twins 60 python3 -m pytest tests/kernels/test_pate.py tests/kernels/test_pate_contract.py -k cuda -q -n 8 -o filterwarnings=default
