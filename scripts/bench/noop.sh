#!/usr/bin/env bash
# How long a run takes that has nothing to do, and the first run of trivial stages, beside Ninja on an equal graph of
# file copies, in one go.
#
#   scripts/bench/noop.sh [ROUNDS]
#
# The toy engine runs: a real kind of equal cost would need an outside program. Ninja comes from PyPI into a temporary
# folder; when it cannot be had, its columns say so. The median of ROUNDS (7) no-op runs is printed, wall and processor
# time, and the most memory held. Figures of two machines do not compare.
set -euo pipefail
cd "$(dirname "$0")/../.."
rounds=${1:-7}
command -v python3 >/dev/null || { echo "error: python3 is needed" >&2; exit 1; }
cargo build --quiet --release --no-default-features --example toy
toy=$(realpath "${CARGO_TARGET_DIR:-target}")/release/examples/toy
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
ninja=
if python3 -m venv venv >/dev/null 2>&1 && venv/bin/pip install --quiet ninja >/dev/null 2>&1; then
  ninja=$work/venv/bin/ninja
else
  echo "ninja cannot be had here: no venv or no package registry; its columns are empty" >&2
fi
python3 - "$toy" "${ninja:-}" "$rounds" <<'PYTHON'
import os, pathlib, resource, statistics, subprocess, sys, time
toy, ninja, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])

def graph(count):
    toml = ['[stage.s0]\nkind = "toy-write"\ntext = "hello\\n"\n']
    rules = ["rule cp\n  command = cp $in $out\n", "build s0: cp src\n"]
    for n in range(1, count):
        before = (n - 1) // 10
        toml.append(f'[stage.s{n}]\nkind = "toy-copy"\ntext = "{n}"\nthreads = 1\ninputs.rows = "s{before}.rows"\n')
        rules.append(f"build s{n}: cp s{before}\n")
    folder = pathlib.Path(f"g{count}")
    folder.mkdir()
    (folder / "p.toml").write_text("\n".join(toml))
    (folder / "build.ninja").write_text("".join(rules))
    (folder / "src").write_text("hello\n")
    return folder

def once(words, folder):
    """Wall seconds, processor seconds, megabytes."""
    began = time.perf_counter()
    child = subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    wall = time.perf_counter() - began
    assert status == 0, (words, status)
    return wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024

def medians(words, folder):
    rows = [once(words, folder) for _ in range(rounds)]
    return [statistics.median(column) for column in zip(*rows)]

print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; milliseconds, wall (processor); no-op is a median of {rounds}")
print("| stages | no-op | bar | ninja no-op | memory, MB | first run | ninja first run | ratio |")
print("|---|---|---|---|---|---|---|---|")
for count, bar in [(100, 10), (1000, 40), (10000, 150)]:
    folder = graph(count)
    run = [toy, "run", "p.toml"]
    first = once(run, folder)
    # What is younger than two seconds is not believed yet; this run writes the index.
    time.sleep(2.5)
    once(run, folder)
    noop = medians(run, folder)
    show = lambda r: f"{r[0] * 1000:.0f} ({r[1] * 1000:.0f})"
    if ninja:
        ninja_first = once([ninja], folder)
        ninja_noop = medians([ninja], folder)
        beside = (show(ninja_noop), show(ninja_first), f"{first[0] / ninja_first[0]:.1f}")
    else:
        beside = ("-", "-", "-")
    print(f"| {count:,} | {show(noop)} | {bar} | {beside[0]} | {noop[2]:.0f} | {show(first)} | {beside[1]} | {beside[2]} |", flush=True)
version = [once([toy, "--help"], ".") for _ in range(21)]
print(f"the same program's `--help`: {statistics.median(r[0] for r in version) * 1000:.1f} ms")
PYTHON
