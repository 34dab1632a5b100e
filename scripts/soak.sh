#!/usr/bin/env bash
# Kills the engine, a worker or both with SIGKILL at random moments, 200 times unless told otherwise, and then lets the
# same command end: its store must hold the digests of an unbroken run.
#
#   scripts/soak.sh [KILLS] [SEED]
#
# The toy engine runs, since it builds without the real kinds; a light, a slow, a mapped, a sharded stage and a program
# of the author's are in the pipeline.
set -euo pipefail
cd "$(dirname "$0")/.."
kills=${1:-200}
seed=${2:-$$}
command -v python3 >/dev/null || { echo "error: python3 is needed" >&2; exit 1; }

# TOY names a built engine, so that the source may change while it is killed.
toy=${TOY:-}
if [ -z "$toy" ]; then
  cargo build --quiet --no-default-features --example toy
  toy=$(realpath "${CARGO_TARGET_DIR:-target}")/debug/examples/toy
fi
work=$(mktemp -d -t 'starling soak ü XXXXXX')
trap 'rm -rf "$work"' EXIT
cd "$work"

lines=$(printf 'line %s\\n' $(seq 1 60))
cat >program.sh <<'SH'
set -eu
n=0; state=start
if [ -n "${STARLING_RESUME:-}" ]; then n=$(cat "$STARLING_RESUME/n"); state=$(cat "$STARLING_RESUME/state"); fi
while [ "$n" -lt 25 ]; do
  n=$((n + 1)); state=$(echo "$state $n" | cksum | cut -d' ' -f1); sleep 0.02
  mkdir -p "$STARLING_SNAPSHOTS/part"
  echo "$n" >"$STARLING_SNAPSHOTS/part/n"; echo "$state" >"$STARLING_SNAPSHOTS/part/state"
  mv "$STARLING_SNAPSHOTS/part" "$STARLING_SNAPSHOTS/$n"
done
cat "$STARLING_INPUT_WORDS" >"$STARLING_OUTPUT_RAW"; echo "$state" >>"$STARLING_OUTPUT_RAW"
SH
cat >p.toml <<TOML
[run]
threads = 3

[stage.text]
kind = "toy-write"
text = "$lines"

[stage.left]
kind = "toy-slow"
inputs.rows = "text.rows"
threads = 1
count = 120
pause = 5

[stage.mapped]
kind = "toy-map"
inputs.rows = "text.rows"
threads = 1
pause = 8

[stage.sharded]
kind = "toy-map"
inputs.rows = "text.rows"
threads = 2
shards = 3
salt = "s"
pause = 12

[stage.program]
kind = "command"
argv = ["sh", "{script}"]
script = "program.sh"
inputs.in.words = "text.rows"
outputs = ["raw"]
threads = 1

[stage.copy]
kind = "toy-copy"
inputs.rows = "left.rows"
text = "copied"

[stage.table]
kind = "toy-concat"
inputs.parts.left = "copy.rows"
inputs.parts.mapped = "mapped.rows"
inputs.parts.sharded = "sharded.rows"
inputs.parts.program = "program.raw"
TOML

python3 - "$toy" "$kills" "$seed" <<'PYTHON'
import json, os, pathlib, random, shutil, signal, subprocess, sys, time
toy, kills, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
random.seed(seed)
quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

def command(store):
    return [toy, "run", "p.toml", "--store", store]

def digests(store):
    """Digests by action and port, and which of the actions are chunks."""
    found, chunks = {}, set()
    for file in pathlib.Path(store, "actions").glob("*.json"):
        record = json.loads(file.read_text().splitlines()[0])
        for port, output in record["outputs"].items():
            found[record["key"], port] = output["digest"]
            if record["kind"].endswith("#chunk"):
                chunks.add((record["key"], port))
    return found, chunks

def children(pid):
    out = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout
    return [int(line) for line in out.split()]

def end(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass

began = time.time()
subprocess.run(command("unbroken"), check=True, **quiet)
took = time.time() - began
want, chunks = digests("unbroken")
done = engines = workers = completed = 0
while done < kills:
    run = subprocess.Popen(command("broken"), **quiet)
    time.sleep(random.uniform(0.0, took * 0.8))
    what = random.choice(["engine", "worker", "both"])
    victims = children(run.pid) if what != "engine" else []
    hit = False
    for pid in random.sample(victims, min(1, len(victims))):
        end(pid)
        workers += 1
        hit = True
    if what != "worker" and run.poll() is None:
        end(run.pid)
        engines += 1
        hit = True
    run.wait()
    done += hit
    # A store that is whole has nothing more to kill: take some results away, or all.
    if run.returncode == 0:
        completed += 1
        actions = sorted(pathlib.Path("broken/actions").glob("*.json"))
        for file in actions if random.random() < 0.3 else random.sample(actions, len(actions) // 2):
            file.unlink()
        if random.random() < 0.3:
            shutil.rmtree("broken/snapshots", ignore_errors=True)
subprocess.run(command("broken"), check=True, **quiet)
got, _ = digests("broken")
# A chunk whose stage was there is not made again after somebody took it away.
wrong = {k for k in want if (k in got or k not in chunks) and got.get(k) != want[k]} | (got.keys() - want.keys())
left = [str(p) for p in pathlib.Path("broken").glob("attempts/*/*/scratch")]
print(f"seed {seed}: {done} kills hit ({engines} engines, {workers} workers), the store was whole {completed} times between")
print(f"{len(want)} outputs of an unbroken run, {len(wrong)} differ; {len(left)} scratch folders are left")
sys.exit(bool(wrong or left))
PYTHON
