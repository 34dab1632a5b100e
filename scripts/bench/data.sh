#!/usr/bin/env bash
# Speed of the preparation and of the reward beside the released Python's figures, in one run.
#
#   scripts/bench/data.sh [ROWS]          # default 81920 rows; with a quarter of them stages take a fifth of a second, and noise decides
#
# Whole stages, with reading and writing, on all cores; the reward and ROUGE in memory on one core. The Python
# figures are those of tests/golden/star/timing.json (one process, a machine of 2 cores); where Google's
# rouge_score is installed (pip install rouge-score nltk), it runs here on the same pairs.
set -euo pipefail
cd "$(dirname "$0")/../.."
rows=${1:-81920}
. scripts/bench/common.sh
need_starling
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

lay_out_preparation "$work"
cat >"$work/bench.toml" <<'TOML'
extends = "preparation.toml"
[stage.proportion-measured]
like = "proportion"
inputs.tokenizer = "tokenizer.tokenizer"
[stage.trainset-measured]
like = "trainset"
max-prompt-tokens = 600
TOML
python3 - "$rows" "$work" <<'PYTHON'
import gzip, json, sys
rows, work = int(sys.argv[1]), sys.argv[2]
raw = [json.loads(l) for l in gzip.open("tests/golden/star/data/xlam_examples_raw.jsonl.gz", "rt")]
with open(f"{work}/raw.jsonl", "w") as out:
    for i in range(rows):
        out.write(json.dumps({**raw[i % len(raw)], "id": i}, ensure_ascii=False) + "\n")
PYTHON

(cd "$work" && "$STARLING" run bench.toml >/dev/null 2>run.log) || { cat "$work/run.log"; exit 1; }
for stage in format filter label proportion proportion-measured trainset trainset-measured; do
  (cd "$work" && "$STARLING" show "$stage" -p bench.toml --json) >"$work/$stage.json"
done
cargo run --quiet --profile "${PROFILE:-release}" -p starling-reward --example speed >"$work/speed.jsonl"

python3 - "$rows" "$work" <<'PYTHON'
import gzip, json, statistics, sys, time
rows, work = int(sys.argv[1]), sys.argv[2]
timing = {t["step"]: t["per_second"] for t in json.load(open("tests/golden/star/timing.json"))}
def python(start):
    return next(v for k, v in timing.items() if k.startswith(start))
def line(what, ours, theirs, bar):
    held = "" if not bar else ("  holds" if ours >= bar * theirs else "  MISSED")
    print(f"{what:52} {ours:12,.0f} {theirs:10,.0f} {ours / theirs:8.1f}×   {f'≥ {bar}×' if bar else '':8}{held}")
print(f"{'step':52} {'starling/s':>12} {'Python/s':>10} {'ratio':>9}   bar")
for stage, start, bar in [
    ("format", "format_xlam", 5), ("filter", "filter_on_simrl", 5), ("label", "labeling_messages", 5),
    ("proportion", "data_proportion main, character", None), ("proportion-measured", "data_proportion main, tokenizer", None),
    ("trainset", "messages_to_trainset", 5), ("trainset-measured", "tokenizer encode of prompts", 2.5),
]:
    made = json.load(open(f"{work}/{stage}.json"))["made"]
    line(f"stage {stage} ({rows} rows, {made['threads']} threads)", rows / made["seconds"], python(start), bar)
ours = {}
for text in open(f"{work}/speed.jsonl"):
    row = json.loads(text)
    ours[row["step"]] = row["per_second"]
line("reward, tools read once a prompt", ours["reward, tools read once a prompt"], python("reward_func"), 50)
line("reward, tools and label read once a prompt", ours["reward, tools and label read once a prompt"], python("reward_func"), 50)
line("reward, from texts", ours["reward, from texts"], python("reward_func"), None)
line("ROUGE-L pairs", ours["ROUGE-L pairs"], python("get_rouge_score (rouge1"), 50)
try:
    from rouge_score import rouge_scorer
except ImportError:
    print("rouge_score is not installed: its row is the stated figure")
else:
    scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=True)
    pairs = [json.loads(l) for l in gzip.open("tests/golden/star/rouge/rouge_public.jsonl.gz", "rt", errors="replace")]
    rates = []
    for _ in range(3):
        start = time.process_time()
        for row in pairs:
            scorer.score(row["ref"], row["pred"])
        rates.append(len(pairs) / (time.process_time() - start))
    line("ROUGE-L pairs, rouge_score on this machine", ours["ROUGE-L pairs"], statistics.median(rates), 50)
PYTHON
