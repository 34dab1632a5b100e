#!/usr/bin/env python3
"""Rollouts by a real OpenAI-compatible server: llama.cpp's own, on the loopback, with a model that starling wrote.

    python3 -m venv VENV && VENV/bin/pip install xllamacpp      # llama.cpp with its server, prebuilt
    VENV/bin/python scripts/peers/endpoint_rollout.py target/release/starling [FOLDER]

`pip install "llama-cpp-python[server]"` works as well, where it can be built; it is taken when it is there.

A tiny teacher is trained on the seeded world, written as GGUF by `lm convert`, and served. The kind `rollout` then asks
the server, as texts with top-k and as chats. Told and checked: how many answers are valid by either way and by our own
engine, how the server's log-probabilities of the tokens differ from ours for the same texts, that a run which lost its
server in the middle asks only for the rest, and that a student learns from the server's top-k.
"""

import array
import importlib.util
import itertools
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

# The world and the teacher of the tests, with more to learn.
PIPELINE = """
extends = "beginning.toml"
[stage.world]
train-rows = 600
[stage.init]
hidden = 64
[stage.teacher]
updates = 500
[stage.own]
kind = "rollout"
inputs.model = "teacher.model"
inputs.prompts = "rows.rows"
prompts = {prompts}
samples = 2
top-k = 8
max-new-tokens = 64
"""

SERVED = """
[stage.texts]
kind = "rollout"
endpoint = "http://127.0.0.1:{port}/v1"
endpoint-model = "tiny"
key-variable = "PEER_KEY"
api = "completions"
inputs.tokenizer = "tokenizer.tokenizer"
inputs.prompts = "rows.rows"
prompts = {prompts}
samples = 2
top-k = 8
max-new-tokens = 64
concurrency = 2
retries = 1
[stage.chats]
kind = "rollout"
endpoint = "http://127.0.0.1:{port}/v1"
endpoint-model = "tiny"
key-variable = "PEER_KEY"
inputs.tokenizer = "tokenizer.tokenizer"
inputs.prompts = "rows.rows"
inputs.conversations = "world.train"
prompts = {prompts}
samples = 2
top-k = 0
max-new-tokens = 64
concurrency = 2
[stage.student]
kind = "distill"
inputs.student = "init.model"
inputs.rollouts = "texts.rollouts"
updates = 10
batch = 8
tail = 1.0
student-top = 8
optimizer.lr = 5e-3
"""
PROMPTS, KEY = 24, "a-key-that-only-this-test-knows"


def command(model, port):
    """What serves a GGUF file: llama-cpp-python's server, else llama.cpp's own in a process of its own."""
    if importlib.util.find_spec("llama_cpp"):
        return [sys.executable, "-m", "llama_cpp.server", "--model", model, "--port", str(port), "--n_ctx", "2048",
                "--logits_all", "true", "--n_threads", "2", "--api_key", KEY, "--verbose", "false", "--seed", "1"]
    return [sys.executable, os.path.abspath(__file__), "--serve", model, str(port)]


def serve(model, port):
    """Serves with llama.cpp's server until the process ends."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path, params.port, params.api_keys = model, port, [KEY]
    params.n_ctx, params.n_parallel, params.cpuparams.n_threads = 4096, 2, 2
    params.use_jinja = True
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    while True:
        time.sleep(60)


def main(binary, folder):
    binary = os.path.abspath(binary)
    folder.mkdir(parents=True, exist_ok=True)
    env = dict(os.environ, PEER_KEY=KEY)

    def starling(*arguments, check=True):
        done = subprocess.run([binary, "--store", "store", *arguments], cwd=folder, env=env, capture_output=True, text=True)
        if check and done.returncode:
            sys.exit(f"{arguments}: exit {done.returncode}\n{done.stderr}")
        return done

    def outputs(stage, pipeline):
        return json.loads(starling("show", stage, "--json", "-p", pipeline).stdout)["outputs"]

    def report(stage, pipeline):
        return json.loads(pathlib.Path(folder, outputs(stage, pipeline)["report"]["path"]).read_text())

    def file_of(output, name):
        return folder / next(f["path"] for f in output["files"] if f["file"] == name)

    small = pathlib.Path(__file__).resolve().parents[2] / "tests/it/small"
    (folder / "beginning.toml").write_text("".join((small / f"{part}.toml").read_text() for part in ("world", "model", "teacher")))
    (folder / "own.toml").write_text(PIPELINE.format(prompts=PROMPTS))
    starling("run", "own.toml")
    own = report("own", "own.toml")
    model = folder / "model"
    model.mkdir(exist_ok=True)
    for entry in outputs("teacher", "own.toml")["model"]["files"]:
        (model / entry["file"]).write_bytes((folder / entry["path"]).read_bytes())
    starling("lm", "convert", "--model", "model", "--out", "tiny.gguf", "--dtype", "f32")

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def start():
        log = open(folder / "server.log", "a")
        server = subprocess.Popen(command("tiny.gguf", port), cwd=folder, stdout=log, stderr=log)
        for _ in range(600):
            try:
                ask = urllib.request.Request(f"http://127.0.0.1:{port}/v1/models", headers={"authorization": f"Bearer {KEY}"})
                urllib.request.urlopen(ask, timeout=2).read()
                return server
            except OSError:
                if server.poll() is not None:
                    sys.exit(f"the server ended: {(folder / 'server.log').read_text()[-2000:]}")
                time.sleep(0.2)
        sys.exit("the server does not answer")

    (folder / "served.toml").write_text(PIPELINE.format(prompts=PROMPTS) + SERVED.format(prompts=PROMPTS, port=port))
    server = start()
    failed = []
    try:
        # Lose the server in the middle: what came is kept.
        broken = subprocess.Popen([binary, "--store", "store", "run", "--json", "--retries", "0", "served.toml"], cwd=folder,
                                  env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        kept = 0
        for line in broken.stdout:
            if '"texts"' in line and '"progress"' in line:
                kept += 1
                if kept == 5:
                    server.kill()
        code = broken.wait()
        print(f"the server was killed after {kept} prompts: exit {code}")
        failed += [] if code == 4 and kept >= 5 else ["a lost server did not fail the run"]
        server.wait()
        server = start()
        again = starling("run", "--json", "served.toml").stdout
        # Of progress that comes fast some is not told, so what counts is where the first that is told stands.
        told = [line for line in again.splitlines() if '"texts"' in line and '"progress"' in line]
        first = json.loads(told[0])["what"]["progress"]["done"] if told else 0
        print(f"the same command went on and first told of {first} prompts")
        failed += [] if first >= kept else ["nothing was kept"]
    finally:
        server.kill()

    share = lambda r: f"{r['kept']} kept of {r['sampled']} ({r['invalid']} invalid, {r['duplicate']} duplicate, {r.get('unaligned', 0)} unaligned)"
    texts, chats = report("texts", "served.toml"), report("chats", "served.toml")
    print(f"own engine: {share(own)}\ntexts:      {share(texts)}\nchats:      {share(chats)}")
    for name, served in [("texts", texts), ("chats", chats)]:
        good, wanted = served["kept"] + served["duplicate"], own["kept"] + own["duplicate"]
        # The same distribution sampled twice: the shares of valid answers are near each other. Not so for chats: there tools
        # stand in the prompt as OpenAI wraps them, which this tiny model never saw. llama.cpp's own server holds answers to a
        # grammar of the tools, so that more of them are valid; llama-cpp-python's does not, so that hardly one is.
        gap = good / served["sampled"] - wanted / own["sampled"]
        held = name == "texts" or not importlib.util.find_spec("llama_cpp")
        if not held:
            print(f"{name}: not compared with our own engine, for this server has no grammar of the tools")
        if (gap < -0.25 and held) or (gap > 0.25 and name == "texts") or not served["sampled"]:
            failed.append(f"{name}: {good} valid answers, our own engine {wanted}")

    # What the server says of its own tokens, against our model on the same ids.
    data = file_of(outputs("texts", "served.toml")["rollouts"], "tokens-00000.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + length])

    def numbers(name, kind):
        first, last = header[name]["data_offsets"]
        values = array.array(kind)
        values.frombytes(data[8 + length + first:8 + length + last])
        return values

    prompts, ids, told = iter(numbers("prompt_ids", "I")), iter(numbers("ids", "I")), iter(numbers("logprobs", "f"))
    prompts = [list(itertools.islice(prompts, n)) for n in numbers("prompt_lens", "I")]
    rows, said = [], []
    for prompt, n in zip(numbers("prompt_of", "I"), numbers("lens", "I")):
        rows.append({"id": len(rows), "ids": prompts[prompt] + list(itertools.islice(ids, n))})
        said.append(list(itertools.islice(told, n)))
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    starling("lm", "logprobs", "--model", "tiny.gguf", "--in", "rows.jsonl", "--out", "scored.jsonl")
    scored = [json.loads(line)["logprobs"] for line in (folder / "scored.jsonl").read_text().splitlines()]
    gaps = sorted(abs(a - b) for own, other in zip(scored, said) for a, b in zip(own[len(own) - len(other):], other) if b == b)
    print(f"log-probabilities of {len(gaps)} tokens, the server's against ours: median {gaps[len(gaps) // 2]:.1e}, largest {gaps[-1]:.1e}")
    failed += [] if gaps and 0 < gaps[-1] < 0.05 else ["log-probabilities differ, or were never the server's"]
    stored = subprocess.run(["grep", "-r", "-l", KEY, "store"], cwd=folder, capture_output=True, text=True).stdout
    failed += [f"the key is in {stored}"] if stored else []
    sys.exit("; ".join(failed) if failed else 0)


if sys.argv[1] == "--serve":
    serve(sys.argv[2], int(sys.argv[3]))
elif len(sys.argv) > 2:
    main(sys.argv[1], pathlib.Path(sys.argv[2]))
else:
    with tempfile.TemporaryDirectory() as temporary:
        main(sys.argv[1], pathlib.Path(temporary))
