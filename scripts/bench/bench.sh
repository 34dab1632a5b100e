#!/usr/bin/env bash
# Checks a second of both benchmarks on one core, ours beside the official Python, on the same workloads; then the
# seconds that `starling score bfcl` takes for a whole stored run.
#
#   scripts/bench/bench.sh [PYTHON | --install] [ACEBENCH]
#
# PYTHON is an interpreter that has the package bfcl-eval (python3 when left out). With --install, the package and what
# its checkers import are installed from the registry of Python packages into a temporary virtual environment. Where the
# package is missing, the rates that are stored with the expected results (tests/golden/bfcl/official_speed.json: the
# official checker, one process, idle machine) are the comparison, and this is said. ACEBench's evaluator is no package:
# ACEBENCH is a clone of its authors' repository (github.com/ACEBench/ACEBench); without one, its stated rate of 15,000
# to 20,000 checks a second is the comparison.
#
# STARLING names a built binary; without it, one is built.
set -euo pipefail
python=${1:-python3}
acebench=${2:-}
if [ -n "$acebench" ]; then acebench=$(cd "$acebench" && pwd); fi
cd "$(dirname "$0")/../.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

if [ "$python" = --install ]; then
  # The package's own requirements name the client of every vendor; its checkers need these.
  python3 -m venv "$scratch/venv"
  python=$scratch/venv/bin/python
  "$python" -m pip install --quiet --no-deps bfcl-eval==2026.3.23
  "$python" -m pip install --quiet mpmath==1.3.0 tree_sitter==0.21.3 tree-sitter-java==0.21.0 \
    tree-sitter-javascript==0.21.4 filelock openai overrides pandas python-dotenv requests tabulate tenacity tqdm
fi

pin() { if command -v taskset >/dev/null; then taskset -c 1 "$@"; else "$@"; fi; }

echo "== starling (divan, one core)"
cargo bench --quiet --no-run -p starling-bench
pin cargo bench --quiet -p starling-bench --benches -- --sample-count 60

echo "== official (processor time of one core)"
if "$python" -c 'import bfcl_eval' 2>/dev/null; then
  pin "$python" scripts/bench/official_bfcl.py
else
  echo "bfcl-eval is not installed for $python; stored rates of the official checker:"
  cat tests/golden/bfcl/official_speed.json
fi
if [ -n "$acebench" ]; then
  pin "$python" scripts/bench/official_acebench.py "$acebench"
else
  echo "ACEBench's evaluator: 15,000 to 20,000 checks a second (stated; name a clone of it to time it here)"
fi

echo "== starling score bfcl, a whole stored run of 4,441 entries, whole process (seconds)"
. scripts/bench/common.sh
need_starling
gzip -dc tests/golden/bfcl/e2e_public_results.jsonl.gz >"$scratch/run.jsonl"
for _ in 1 2 3 4 5 6 7; do
  start=$(date +%s.%N)
  "$STARLING" score bfcl --in "$scratch/run.jsonl" --out "$scratch/verdicts.jsonl" >/dev/null 2>&1
  end=$(date +%s.%N)
  awk -v a="$start" -v b="$end" 'BEGIN { printf "%.3f\n", b - a }'
done | sort -n | tr '\n' ' '
echo
