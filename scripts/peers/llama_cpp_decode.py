#!/usr/bin/env python3
"""Decoding speed of llama.cpp, for scripts/bench/lm.sh: greedy, prompts that share nothing, past end tokens.

    llama_cpp_decode.py MODEL.gguf SEQUENCES [PROMPT] [NEW]

Prefill is the time of PROMPT + 1 tokens, decoding what PROMPT + NEW take beyond it, as for the other programs.
"""

import pathlib
import random
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import llama_peer as peer  # noqa: E402


def main(path, sequences, prompt=512, new=128):
    sequences, prompt, new = int(sequences), int(prompt), int(new)
    llama = peer.open_model(path, sequences=sequences, context=prompt + new + 64, exact=False)
    random.seed(1)
    prompts = [[random.randrange(1000, 40000) for _ in range(prompt)] for _ in range(sequences)]
    llama.decode([ids[:16] for ids in prompts], 2)
    seconds = []
    for count in [1, new]:
        begin = time.time()
        llama.decode(prompts, count)
        seconds.append(time.time() - begin)
    first, whole = seconds
    print(f"llama.cpp {pathlib.Path(path).name}, {sequences} x ({prompt} + {new}): prefill {sequences * prompt / first:.0f} "
          f"tokens/s, decode {sequences * (new - 1) / (whole - first):.1f} tokens/s, whole {sequences * new / whole:.1f} tokens/s", flush=True)


main(*sys.argv[1:])
