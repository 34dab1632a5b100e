#!/usr/bin/env bash
# Speed and memory of the language models beside PyTorch, transformers and llama.cpp, in one run on this machine.
#
#   scripts/bench/lm.sh [train] [head] [decode] [group]      all of them when none is named
#   SEQUENCES="1 8" scripts/bench/lm.sh decode               fewer than 1, 8 and 32 sequences at once
#
# The peers are installed into a folder of their own (PEERS, a temporary one when it is not set); llama.cpp is whichever package
# of it is there (scripts/peers/llama_peer.py). Quote ratios: machines differ. Where anything else runs, give this the processors
# for itself (`chrt -f 1 scripts/bench/lm.sh`): programs whose threads wait for each other lose most of what they share.
set -euo pipefail
cd "$(dirname "$0")/../.."
parts=${*:-train head decode group}
peers=${PEERS:-$(mktemp -d)/venv}
if ! [ -x "$peers/bin/python" ]; then
  python3 -m venv "$peers"
  "$peers/bin/pip" install --quiet torch==2.15.0 transformers==5.23.0 xllamacpp==2026.10.11549
fi
python=$peers/bin/python
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
. scripts/bench/common.sh
need_starling
bench() { cargo bench --quiet --locked -p starling-lm --bench train_step -- "$@"; }
has() { [[ " $parts " == *" $1 "* ]]; }

if has train; then
  for model in smollm2 qwen3-20m; do
    for loss in ce ckd; do
      for dtype in f32 bf16; do
        for keep in keep recompute; do
          echo "$model $loss $keep $dtype: $(bench packed $model $loss $keep 2 2 $dtype)"
        done
        "$python" scripts/peers/torch_train.py train $model $loss $dtype 2
      done
    done
  done
fi
if has head; then
  for dtype in f32 bf16; do
    for threads in 1 2; do bench head $threads $dtype; done
  done
  "$python" scripts/peers/torch_train.py head 2048
fi
if has decode || has group; then
  scripts/fetch-smollm2.sh
  "$STARLING" lm convert --model models/SmolLM2-135M-Instruct.Q4_1.gguf --out "$work/smollm2"
fi
rows() { # SEQUENCES PROMPT: prompts that share nothing
  "$python" - "$1" "$2" <<'PYTHON'
import json, random, sys
random.seed(1)
for i in range(int(sys.argv[1])):
    print(json.dumps({"id": i, "ids": [random.randrange(1000, 40000) for _ in range(int(sys.argv[2]))]}))
PYTHON
}
generate() { "$STARLING" lm generate --model "$work/smollm2" --out "$work/out.jsonl" --ignore-end "$@" 2>&1; }
seconds() { sed -n 's/.* tokens in \([0-9.]*\) s .*/\1/p'; }
if has decode; then
  "$python" scripts/peers/llama_peer.py
  for keep in f32 q8-0; do
    "$STARLING" lm convert --model "$work/smollm2" --out "$work/$keep.gguf" --dtype $keep
  done
  for n in ${SEQUENCES:-1 8 32}; do
    rows "$n" 512 >"$work/in.jsonl"
    for keep in f32 q8-0; do
      first=$(generate --in "$work/in.jsonl" --keep $keep --max-tokens 1 | seconds)
      whole=$(generate --in "$work/in.jsonl" --keep $keep --max-tokens 128 | seconds)
      awk -v n="$n" -v first="$first" -v whole="$whole" -v keep=$keep 'BEGIN {
        printf "starling %s, %d x (512 + 128): prefill %.0f tokens/s, decode %.1f tokens/s, whole %.1f tokens/s\n",
          keep, n, 512 * n / first, 127 * n / (whole - first), 128 * n / whole }'
      "$python" scripts/peers/llama_cpp_decode.py "$work/$keep.gguf" "$n" 2>/dev/null
    done
    "$python" scripts/peers/torch_train.py decode "$work/smollm2" "$n"
  done
fi
if has group; then
  rows 1 1000 >"$work/one.jsonl"
  rows 8 1000 >"$work/eight.jsonl"
  echo "8 samples of one prompt of 1,000 tokens: $(generate --in "$work/one.jsonl" --n 8 --temperature 1 --max-tokens 64)"
  echo "8 requests: $(generate --in "$work/eight.jsonl" --temperature 1 --max-tokens 64)"
fi
if has train; then
  bench packed smollm2 ce keep 2 1
  bench grouped smollm2 ce keep 2 1
fi
