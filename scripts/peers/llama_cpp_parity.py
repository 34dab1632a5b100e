#!/usr/bin/env python3
"""Compares greedy continuations of a GGUF file written by `starling lm convert` with llama.cpp's.

    python3 -m venv VENV && VENV/bin/pip install xllamacpp==2026.10.11549      # or llama-cpp-python: see llama_peer.py
    VENV/bin/python scripts/peers/llama_cpp_parity.py target/release/starling MODEL [f32 q8-0 ...]

MODEL is a Hugging Face folder or a GGUF file. For each type the file is written and loaded by both; tokens of 50
prompts, the chat template and 64 greedy tokens are compared, those of four conversations among them. Where texts
part, llama.cpp's own logprobs say by how much the two tokens are apart. llama.cpp rounds activations to 8 bits (K-quants and
Q8_0) or 16 bits (f16, bf16) before it multiplies, which we do not, so that small differences are no fault there.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import llama_peer as peer  # noqa: E402

SUBJECTS = ["the sea", "a bridge", "winter", "my brother", "iron", "a city", "music", "the moon", "bread", "time"]
FORMS = ["Write about {}.", "What is known of {}?", "Once, {}", "The price of {} is 1,234 and", "def f({}):"]
PROMPTS = [form.format(subject) for subject in SUBJECTS for form in FORMS]
CHATS = [
    [{"role": "user", "content": "What is the largest planet?"}],
    [{"role": "system", "content": "Answer with one word."}, {"role": "user", "content": "Which colour is the sky?"}],
    [{"role": "user", "content": "Hi!"}, {"role": "assistant", "content": "Hello."}, {"role": "user", "content": "And now?"}],
    [{"role": "user", "content": "Tokens: Ünïcode — 中文, 👍🏽  two  spaces\n\tand a tab"}],
]
# What logprobs of equal tokens after equal texts may differ by; two tokens nearer than twice this may change places.
NOISE = {"f32": 1e-2, "f16": 3e-2, "bf16": 0.3}
NEW = 64


def rows(path):
    return [json.loads(line) for line in open(path)]


def compare(binary, work, kind, model):
    path = work / f"{kind}.gguf"
    subprocess.run([binary, "lm", "convert", "--model", model, "--out", path, "--dtype", kind], check=True)
    llama = peer.open_model(path, sequences=8, context=256)
    begin = time.time()
    asked = [{"id": at, "prompt": prompt} for at, prompt in enumerate(PROMPTS)]
    asked += [{"id": len(PROMPTS) + at, "messages": messages} for at, messages in enumerate(CHATS)]
    (work / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    subprocess.run([binary, "lm", "generate", "--model", path, "--in", work / "in.jsonl", "--out", work / "out.jsonl",
                    "--max-tokens", str(NEW)], check=True, stderr=subprocess.DEVNULL)
    texts = [*PROMPTS, *map(llama.render, CHATS)]
    (work / "texts.jsonl").write_text("".join(json.dumps({"id": at, "text": text}) + "\n" for at, text in enumerate(texts)))
    subprocess.run([binary, "lm", "logprobs", "--model", path, "--in", work / "texts.jsonl", "--out", work / "lp.jsonl"],
                   check=True, stderr=subprocess.DEVNULL)
    tokens = [row["ids"] for row in rows(work / "lp.jsonl")]
    other_tokens, equal, gaps, greatest = 0, 0, [], 0.0
    ids = [llama.tokenize(text) for text in texts]
    answers = llama.greedy_all(ids, NEW)
    for at, (row, (theirs, tops)) in enumerate(zip(rows(work / "out.jsonl"), answers)):
        other_tokens += ids[at] != tokens[at]
        place = next((i for i, (a, b) in enumerate(zip(theirs, row["ids"])) if a != b), None)
        compared = place if place is not None else min(len(theirs), len(row["ids"]))
        for token, top, logprob in list(zip(theirs, tops, row["logprobs"]))[:compared]:
            greatest = max(greatest, abs(top.get(token, logprob) - logprob))
        if place is None:
            equal += 1
        else:
            gaps.append((tops[place].get(theirs[place], 0.0) - tops[place].get(row["ids"][place], -100.0), at, place))
    far = [(round(gap, 4), at, place) for gap, at, place in gaps if gap > 2 * greatest]
    template = "there" if llama.template else "missing"
    print(f"{kind}: {equal} of {len(asked)} equal, {len(gaps) - len(far)} part within the error, {len(far)} further {far[:3]}; "
          f"logprobs of equal tokens differ by up to {greatest:.1e}; other tokens in {other_tokens} texts; template {template}; "
          f"{time.time() - begin:.0f} s", flush=True)
    path.unlink()
    return bool(far or other_tokens or greatest > NOISE.get(kind, 0.6) or not llama.template)


def main(binary, model, kinds):
    print(peer.about(), flush=True)
    with tempfile.TemporaryDirectory() as work:
        failed = [kind for kind in kinds if compare(binary, pathlib.Path(work), kind, model)]
    if failed:
        sys.exit(f"failed: {failed}")
    print("all within the bars")


main(sys.argv[1], sys.argv[2], sys.argv[3:] or ["f32", "f16", "bf16", "q8-0", "q4-k-m"])
