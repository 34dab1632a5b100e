#!/usr/bin/env bash
# How fast the store is: one large artifact, many small files, the start of the command; in one run with what the
# machine can do at all.
#
#   scripts/bench/store.sh [BYTES] [FILES]     (2,000,000,000 and 100,000 unless told otherwise)
#
# The rate to compare with is the smaller of one core's SHA-256 and `dd conv=fsync` of the same bytes. They take turns
# five times with storing and checking, and medians are printed: the rate of a shared disk moves within a run.
set -euo pipefail
cd "$(dirname "$0")/../.."
bytes=${1:-2000000000}
files=${2:-100000}
command -v python3 >/dev/null || { echo "error: python3 is needed" >&2; exit 1; }
cargo build --quiet --release -p starling-cache --example measure
measure=$(realpath "${CARGO_TARGET_DIR:-target}")/release/examples/measure
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$measure" "$work" "$bytes" "$files" >"$work/rows"
. scripts/bench/common.sh
need_starling
python3 - "$work/rows" "$bytes" "$files" "$STARLING" <<'PYTHON'
import os, statistics, subprocess, sys, time
rows = dict(line.split() for line in open(sys.argv[1]))
size, files = int(sys.argv[2]), int(sys.argv[3])
dd, sha = float(rows["dd"]), float(rows["sha256"])
base = min(sha, dd)
print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; MB are 1,000,000 bytes")
print("| what | figure | bar |")
print("|---|---|---|")
print(f"| SHA-256, one core | {sha:.0f} MB/s | |")
print(f"| dd conv=fsync | {dd:.0f} MB/s | |")
for name, what in [("put", "storing"), ("check", "checking")]:
    rate = float(rows[name])
    print(f"| {what} {size:,} bytes | {rate:.0f} MB/s, {100 * rate / base:.0f} % | 80 % |")
print(f"| storing {files:,} small files | {rows['put-small']} s | 10 s |")
print(f"| planned no-op of these | {rows['noop-small']} s | 0.5 s |")
times = []
for _ in range(31):
    began = time.perf_counter()
    subprocess.run([sys.argv[4], "--version"], check=True, stdout=subprocess.DEVNULL)
    times.append(time.perf_counter() - began)
print(f"| starling --version, median of 31 | {statistics.median(times) * 1000:.1f} ms | 5 ms |")
PYTHON
