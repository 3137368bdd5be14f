#!/usr/bin/env bash
# On a machine with a GPU, in 9 minutes and without a network: build, GPU tests, GPU benchmarks, one JSON and one table.
#   benchmarks/gpu.sh [OUT]                 PYTHON=python3.12 benchmarks/gpu.sh   to choose the interpreter
#   benchmarks/gpu.sh --rehearse [OUT]      without a GPU: builds, collects the tests, runs the benchmarks on stand-ins (benchmarks/rehearsal.py)
#   compute-sanitizer --target-processes all python -m pytest -n 0 -m gpu tests        the same tests under the sanitizer
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
rehearse=() collect=()
if [ "${1:-}" = --rehearse ]; then
  rehearse=(--rehearse) collect=(--collect-only)
  shift
fi
out=${1:-benchmarks/results}
begin=$SECONDS
mkdir -p "$out"

stage() { # name, limit in seconds, command ...
  local name=$1 limit=$2
  shift 2
  local at=$SECONDS
  timeout -k 5 "$limit" "$@" >"$out/$name.log" 2>&1
  local status=$?
  echo "$name: exit status $status, $((SECONDS - at)) s, log $out/$name.log"
  tail -n 3 "$out/$name.log"
  return $status
}

failed=0
nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem,power.limit --format=csv
# Without pybind11, CMake or ninja at hand the pure Python backends are measured; the log and the JSON say so.
stage build 150 "$python" setup.py build_ext --inplace || failed=1
# Only files with GPU tests: others may import what this machine lacks. A line per test, so that a run cut short says how far it came. A
# kernel's fault ends the process that it runs in, so the newest kernels are tested in one of their own.
mapfile -t files < <(grep -lE 'mark\.gpu' tests/test_*.py | grep -v test_gpu_clusters)
side_by_side=()
"$python" -c "import xdist" 2>/dev/null && side_by_side=(-n 6)
test=("$python" -m pytest -o addopts=--strict-markers -v -p no:cacheprovider ${collect[@]+"${collect[@]}"})
stage tests 80 "${test[@]}" ${side_by_side[@]+"${side_by_side[@]}"} -m gpu --deselect tests/test_triton.py::test_on_the_gpu "${files[@]}" || failed=1
stage tests-clusters 40 "${test[@]}" -m gpu tests/test_gpu_clusters.py || failed=1
TRITON_INTERPRET=${#rehearse[@]} stage tests-triton 80 "${test[@]}" ${side_by_side[@]+"${side_by_side[@]}"} -m "" tests/interpreter/check_*.py || failed=1
left=$((530 - (SECONDS - begin)))
timeout -k 5 "$left" "$python" benchmarks/gpu.py --out "$out" --minutes "$(awk "BEGIN { print ($left - 5) / 60 }")" ${rehearse[@]+"${rehearse[@]}"} || failed=1
echo "all: $((SECONDS - begin)) s, failed=$failed"
exit $failed
