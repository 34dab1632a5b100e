#!/usr/bin/env python3
"""Compares greedy continuations of a GGUF file written by `starling lm convert` with llama.cpp's.

    python3 -m venv VENV && VENV/bin/pip install llama-cpp-python      # builds llama.cpp from source
    VENV/bin/python scripts/peers/llama_cpp_parity.py target/release/starling MODEL [f32 q8-0 ...]

MODEL is a Hugging Face folder or a GGUF file. For each type the file is written, loaded by both, and 20 prompts are
continued by 48 tokens; where they part, the difference of llama.cpp's log-probabilities at that place is told.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import time

from llama_cpp import Llama

PROMPTS = [f.format(s) for s in ["the sea", "a bridge", "winter", "iron", "music"]
           for f in ["Write about {}.", "What is known of {}?", "Once, {}", "The price of {} is 1,234 and"]]


def main(binary, model, kinds):
    failed = False
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        for kind in kinds:
            path = work / f"{kind}.gguf"
            subprocess.run([binary, "lm", "convert", "--model", model, "--out", path, "--dtype", kind], check=True)
            llama = Llama(str(path), n_ctx=512, n_threads=2, verbose=False, logits_all=True)
            template = llama.metadata.get("tokenizer.chat_template")
            ids = [llama.tokenize(p.encode(), add_bos=False, special=True) for p in PROMPTS]
            (work / "in.jsonl").write_text("".join(json.dumps({"id": i, "prompt": p}) + "\n" for i, p in enumerate(PROMPTS)))
            subprocess.run([binary, "lm", "generate", "--model", path, "--in", work / "in.jsonl", "--out", work / "out.jsonl",
                            "--max-tokens", "48", "--ignore-end"], check=True)
            equal, begin = 0, time.time()
            for at, line in enumerate(open(work / "out.jsonl")):
                row, own = json.loads(line), []
                llama.reset()
                llama.eval(ids[at])
                for place in range(48):
                    scores = llama.scores[llama.n_tokens - 1]
                    token = int(scores.argmax())
                    if token != row["ids"][place]:
                        gap = float(scores[token] - scores[row["ids"][place]])
                        print(f"{kind}: prompt {at} parts at {place}, {gap:.2e} apart")
                        failed |= gap > (1e-2 if kind == "f32" else 0.3)
                        break
                    own.append(token)
                    llama.eval([token])
                equal += own == row["ids"]
            print(f"{kind}: {equal} of {len(PROMPTS)} equal; template {'there' if template else 'missing'}; "
                  f"{time.time() - begin:.1f} s")
    sys.exit("failed" if failed else 0)


main(sys.argv[1], sys.argv[2], sys.argv[3:] or ["f32", "q8-0", "q4-k-m"])
