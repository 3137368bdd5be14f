#!/usr/bin/env bash
# The native CPU tests under the address and undefined-behaviour sanitizers, on a copy of the tree. Needs g++ with libasan and libubsan.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
R3DAD_SANITIZE=1 R3DAD_CUDA=0 R3DAD_NATIVE=require python setup.py -q build_ext --build-lib "$work"
mkdir "$work/tree"
cp -r r3dad kernels tests pyproject.toml "$work/tree/"
cp "$work"/r3dad/_cpu*.so "$work/tree/r3dad/"
cd "$work/tree"
library() { "${CXX:-g++}" -print-file-name="$1"; }
LD_PRELOAD="$(library libasan.so) $(library libubsan.so) $(library libstdc++.so.6)" \
  ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 PYTHONMALLOC=malloc OMP_NUM_THREADS=1 \
  python -m pytest -n 0 -p no:cacheprovider -q --timeout 1800 tests/test_native.py --deselect tests/test_native.py::test_the_instruction_set_is_chosen_by_variable_and_a_wrong_name_is_explained "$@"
