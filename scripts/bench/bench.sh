#!/usr/bin/env bash
# Checks a second of both benchmarks on one core, ours beside the official Python where that is installed.
#
#   scripts/bench/bench.sh [PYTHON]
#
# PYTHON is an interpreter that has the package bfcl-eval (python3 when left out). Where it lacks the package, the
# rates that are stored with the golden results (tests/golden/bfcl/official_speed.json: the official checker, one
# process, idle machine) are the comparison, and this is said. ACEBench's evaluator is no package: its stated rate is
# 15,000 to 20,000 checks a second.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${1:-python3}

pin() { if command -v taskset >/dev/null; then taskset -c 0 "$@"; else "$@"; fi; }

echo "== starling (divan, one core)"
pin cargo bench --quiet -p starling-bench

echo "== official"
if "$python" -c 'import bfcl_eval' 2>/dev/null; then
  pin "$python" scripts/bench/official_bfcl.py
else
  echo "bfcl-eval is not installed for $python; stored rates of the official checker:"
  cat tests/golden/bfcl/official_speed.json
fi
echo "ACEBench's evaluator: 15,000 to 20,000 checks a second (stated with its specification)"
