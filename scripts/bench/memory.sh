#!/usr/bin/env bash
# Memory of the preparing stages on a large file: it must not grow with the file.
#
#   scripts/bench/memory.sh [MEGABYTES] [FOLDER] [stages|formats|all]       # default 2000, a temporary folder, all
#
# Prints the largest memory of every stage; the bar is 1 GiB for 2 GB. `stages` goes from raw JSON lines to training
# rows; `formats` writes the rows in every other format and reads each back. Needs ten times the size on disk.
# `STARLING` names a program that is built already.
set -euo pipefail
cd "$(dirname "$0")/../.."
megabytes=${1:-2000}
what=${3:-all}
. scripts/bench/common.sh
need_starling
work=$(mktemp -d "${2:-/tmp}/starling-memory.XXXXXX")
trap 'rm -rf "$work"' EXIT

lay_out_preparation "$work"
cat >"$work/stages.toml" <<'TOML'
extends = "preparation.toml"
[stage.merge]
kind = "merge"
inputs.parts.one = "label.rows"
[stage.decontaminate]
kind = "decontaminate"
inputs.rows = "merge.rows"
[stage.split]
kind = "split"
inputs.rows = "label.rows"
by = "row"
test = 0.1
[stage.trainset]
inputs.rows = "split.train"
TOML
python3 - "$megabytes" "$work" <<'PYTHON'
import gzip, json, sys
size, work = int(sys.argv[1]) * 1_000_000, sys.argv[2]
raw = [json.loads(l) for l in gzip.open("tests/golden/star/data/xlam_examples_raw.jsonl.gz", "rt")]
tails = [json.dumps(row, ensure_ascii=False).encode()[1:] for row in
         ({k: v for k, v in row.items() if k != "id"} for row in raw)]
written, i = 0, 0
with open(f"{work}/raw.jsonl", "wb", buffering=1 << 22) as out:
    while written < size:
        written += out.write(b'{"id": %d, ' % i + tails[i % len(tails)] + b"\n")
        i += 1
print(f"{i} rows, {written / 1e6:.0f} MB")
formats = "".join(f'''
[stage.write-{name}]
kind = "export-rows"
inputs.rows = "format.rows"
format = "{name}"
[stage.read-{name}]
kind = "format"
inputs.raw = "write-{name}.file"
source = "messages"
''' for name in ("jsonl", "jsonl-gz", "jsonl-zst", "json", "parquet"))
open(f"{work}/formats.toml", "w").write('include = ["source.toml"]\n' + formats)
PYTHON

cd "$work"
for part in stages formats; do
  [ "$what" = all ] || [ "$what" = "$part" ] || continue
  "$STARLING" run "$part.toml" >/dev/null 2>run.log || { cat run.log; exit 1; }
  "$STARLING" plan "$part.toml" --json >plan.json
  for stage in $(python3 -c 'import json; print(*(s["stage"] for s in json.load(open("plan.json"))["stages"]))'); do
    "$STARLING" show "$stage" -p "$part.toml" --json >made.json
    python3 - "$stage" <<'PYTHON'
import json, sys
made = json.load(open("made.json"))["made"]
print(f"{sys.argv[1]:16} {made['max-rss-bytes'] / 2**20:8.0f} MiB  {made['seconds']:8.1f} s")
PYTHON
  done
  rm -rf .starling
done
