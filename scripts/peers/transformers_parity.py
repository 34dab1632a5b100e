#!/usr/bin/env python3
"""Compares starling's language models with transformers, and writes the golden files that need no Python.

    python3 -m venv VENV && VENV/bin/pip install torch==2.15.0 transformers==5.23.0
    VENV/bin/python scripts/peers/transformers_parity.py golden tests/golden/lm
    VENV/bin/python scripts/peers/transformers_parity.py run target/release/starling [--smollm2 models/SmolLM2-....gguf]

`golden` makes small seeded models of every family with logits and gradients (cross-entropy and constrained
distillation), computed by PyTorch in float64, as one safetensors file each. `run` makes seeded random models, saves
them with save_pretrained (and once more with the configuration as transformers 4 spells it) and compares log-probabilities
and 64 greedy tokens of 50 prompts with `starling lm`; then it loads what `starling lm convert` wrote.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import torch
import transformers
from safetensors.torch import save_file
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def build(family, seed, *, tied, heads, kv, hidden=64, inter=96, layers=2, vocab=320, dim=None, scaling=None,
          theta=10000.0, context=512, spread=0.3):
    """A model whose every weight is random and large enough to matter."""
    shape = dict(
        vocab_size=vocab, hidden_size=hidden, intermediate_size=inter, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=kv, max_position_embeddings=context, tie_word_embeddings=tied,
        rms_norm_eps=1e-6, bos_token_id=None, eos_token_id=None, pad_token_id=None,
    )
    rope = {"rope_theta": theta, "rope_type": "default"}
    if scaling:
        rope = {"rope_theta": theta, **scaling}
    shape["rope_parameters"] = rope
    if family == "qwen3":
        config, kind = Qwen3Config(head_dim=dim or hidden // heads, **shape), Qwen3ForCausalLM
    elif family == "qwen2":
        config, kind = Qwen2Config(**shape), Qwen2ForCausalLM
    else:
        config, kind = LlamaConfig(head_dim=dim or hidden // heads, **shape), LlamaForCausalLM
    model = kind(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            noise = torch.randn(value.shape, generator=generator)
            if "norm" in name:
                value.copy_(1 + 0.3 * noise)
            elif value.dim() == 1:
                value.copy_(spread * noise)
            else:
                value.copy_(noise * spread / (value.shape[1] / 64) ** 0.5)
    return model


# ---------------------------------------------------------------- golden files

def ckd(logits, targets, teacher_ids, teacher_logprobs, tail, top, ratio):
    """Mean over positions of ratio * (forward divergence + tail * strays) + (1 - ratio) * cross-entropy."""
    s = torch.log_softmax(logits, -1)
    listed = torch.gather(s, 1, teacher_ids)
    t = teacher_logprobs
    forward = (t.exp() * (t - listed)).sum(-1)
    own = logits.topk(top, dim=-1).indices
    stray = ~(own.unsqueeze(-1) == teacher_ids.unsqueeze(1)).any(-1)
    strays = (torch.gather(s, 1, own).exp() * stray).sum(-1)
    ce = -torch.gather(s, 1, targets.unsqueeze(-1)).squeeze(-1)
    return (ratio * (forward + tail * strays) + (1 - ratio) * ce).mean()


def golden(folder):
    folder.mkdir(parents=True, exist_ok=True)
    small = dict(hidden=24, inter=40, vocab=67)
    cases = {
        "qwen3_tied": build("qwen3", 1, tied=True, heads=4, kv=2, dim=8, **small),
        "qwen3_untied": build("qwen3", 2, tied=False, heads=3, kv=1, dim=12, **small),
        "qwen2_tied": build("qwen2", 3, tied=True, heads=4, kv=2, **small),
        "llama_scaled": build("llama", 4, tied=False, heads=4, kv=4, scaling=LLAMA3, theta=500000.0, **small),
    }
    for name, model in cases.items():
        model = model.double()
        generator = torch.Generator().manual_seed(9)
        n, k = 90, 5
        ids = torch.randint(0, 67, (n,), generator=generator)
        positions = torch.tensor([p for p in range(1, n) if p % 3 != 2])
        t_ids = torch.stack([torch.randperm(67, generator=generator)[:k] for _ in positions])
        t_logprobs = torch.log_softmax(torch.randn(len(positions), k, generator=generator).double(), -1) - 0.2
        t_logprobs = t_logprobs.float()
        tensors = {
            "ids": ids.to(torch.int32), "positions": positions.to(torch.int32),
            "teacher_ids": t_ids.to(torch.int32), "teacher_logprobs": t_logprobs,
        }
        for key, value in model.state_dict().items():
            if not (key == "lm_head.weight" and model.config.tie_word_embeddings):
                tensors["weight." + key] = value.float().contiguous().clone()
        values = {}
        for loss_name in ["ce", "ckd"]:
            model.zero_grad()
            logits = model(ids.unsqueeze(0)).logits[0]
            rows, targets = logits[positions - 1], ids[positions]
            if loss_name == "ce":
                loss = torch.nn.functional.cross_entropy(rows, targets)
            else:
                loss = ckd(rows, targets, t_ids, t_logprobs.double(), tail=10.0, top=9, ratio=0.8)
            loss.backward()
            values[loss_name] = loss.item()
            for key, value in model.named_parameters():
                tensors[f"{loss_name}.{key}"] = value.grad.float().contiguous().clone()
        tensors["logits"] = logits.detach().float().contiguous().clone()
        metadata = {
            "config": json.dumps(model.config.to_dict(), default=str, sort_keys=True),
            "ce": repr(values["ce"]), "ckd": repr(values["ckd"]),
            "script": "scripts/peers/transformers_parity.py golden",
            "versions": f"torch {torch.__version__}, transformers {transformers.__version__}, float64",
        }
        save_file(tensors, folder / f"{name}.safetensors", metadata=metadata)
        print(f"{name}: ce {values['ce']:.6f}, ckd {values['ckd']:.6f}")


# ---------------------------------------------------------------- comparison with the command

def rows_of(path):
    return [json.loads(line) for line in open(path)]


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def starling(binary, *arguments):
    done = subprocess.run([binary, "lm", *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"starling lm {arguments[0]} ended with {done.returncode}:\n{done.stderr}")


def older_spelling(folder):
    """Rewrites config.json as transformers 4 writes it."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters", None) or {}
    config["rope_theta"] = rope.pop("rope_theta", 10000.0)
    config["rope_scaling"] = rope if rope.get("rope_type", "default") != "default" else None
    config["torch_dtype"] = config.pop("dtype", "float32")
    config["transformers_version"] = "4.51.0"
    path.write_text(json.dumps(config))


def compare(binary, work, name, model, folder, prompts, texts, tokens=64):
    """Log-probabilities and greedy continuations of one model; returns the largest relative error.

    Errors are relative to each log-probability in f32, and to the row's greatest logit where the model computes in bf16.
    """
    model = model.eval()
    write_rows(work / "texts.jsonl", [{"id": str(i), "ids": t} for i, t in enumerate(texts)])
    starling(binary, "logprobs", "--model", folder, "--in", work / "texts.jsonl", "--out", work / "lp.jsonl", "--topk", 5)
    worst, noise = 0.0, 0.0
    for text, row in zip(texts, rows_of(work / "lp.jsonl")):
        with torch.no_grad():
            logits = model(torch.tensor([text])).logits[0, :-1].float()
        expected = torch.log_softmax(logits, -1)
        coarse = model.dtype == torch.bfloat16
        size = logits.abs().max(-1).values if coarse else torch.ones(len(logits))
        chosen = expected.gather(1, torch.tensor(text[1:]).unsqueeze(-1)).squeeze(-1)
        found = torch.tensor(row["logprobs"])
        difference = (found - chosen).abs()
        measure = size if coarse else chosen.abs().clamp(min=1.0)
        worst = max(worst, (difference / measure).max().item())
        top = expected.topk(5, -1).values
        difference = (torch.tensor(row["top_logprobs"]) - top).abs()
        measure = size.unsqueeze(-1) if coarse else top.abs().clamp(min=1.0)
        worst = max(worst, (difference / measure).max().item())
        noise = max(noise, difference.max().item())
    write_rows(work / "prompts.jsonl", [{"id": str(i), "ids": p} for i, p in enumerate(prompts)])
    starling(binary, "generate", "--model", folder, "--in", work / "prompts.jsonl", "--out", work / "gen.jsonl",
             "--max-tokens", tokens, "--ignore-end")
    # Texts are equal when every token is the likeliest after those before it; one pass over a text tells.
    equal, near, differ = 0, 0, []
    for at, (prompt, row) in enumerate(zip(prompts, rows_of(work / "gen.jsonl"))):
        with torch.no_grad():
            logits = model(torch.tensor([prompt + row["ids"]])).logits[0, len(prompt) - 1:-1].float()
        best, found = logits.max(-1), torch.tensor(row["ids"])
        others = (best.indices != found).nonzero().flatten().tolist()
        if len(row["ids"]) == tokens and not others:
            equal += 1
            continue
        place = others[0] if others else len(row["ids"])
        margin = (best.values[place] - logits[place, found[place]]).item() if others else float("inf")
        if margin <= 4 * max(noise, 1e-6):
            near += 1
        else:
            differ.append((at, place, margin))
    print(f"{name}: relative error {worst:.2e}; greedy: {equal} of {len(prompts)} equal, {near} within the error, "
          f"{len(differ)} different {differ[:3]}", flush=True)
    return worst, differ


def random_prompts(count, vocab, seed, shortest=3, longest=40):
    generator = torch.Generator().manual_seed(seed)
    def one(low, high):
        length = int(torch.randint(low, high, (1,), generator=generator))
        return torch.randint(0, vocab, (length,), generator=generator).tolist()
    return [one(shortest, longest) for _ in range(count)], [one(60, 200) for _ in range(4)]


def run(binary, gguf, count, only):
    failed = []
    shapes = [
        ("qwen3 tied 4/2", dict(family="qwen3", seed=1, tied=True, heads=4, kv=2, dim=32)),
        ("qwen3 untied 8/1", dict(family="qwen3", seed=2, tied=False, heads=8, kv=1, dim=16)),
        ("qwen3 tied 8/8", dict(family="qwen3", seed=3, tied=True, heads=8, kv=8, theta=1e6)),
        ("qwen2 tied 4/4", dict(family="qwen2", seed=4, tied=True, heads=4, kv=4)),
        ("qwen2 untied 8/2", dict(family="qwen2", seed=5, tied=False, heads=8, kv=2, theta=1e6)),
        ("llama tied 9/3", dict(family="llama", seed=6, tied=True, heads=9, kv=3, hidden=72)),
        ("llama untied 8/2 llama3", dict(family="llama", seed=7, tied=False, heads=8, kv=2, scaling=LLAMA3, theta=5e5)),
    ]
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        for name, shape in shapes:
            if only not in name:
                continue
            model = build(**shape)
            prompts, texts = random_prompts(count, model.config.vocab_size, shape["seed"])
            folder = work / "model"
            model.save_pretrained(folder, max_shard_size="200KB" if shape["tied"] else "5GB")
            for spelling in ["5", "4"]:
                if spelling == "4":
                    older_spelling(folder)
                few = prompts if spelling == "5" else prompts[:5]
                worst, differ = compare(binary, work, f"{name}, config of transformers {spelling}", model, folder, few, texts)
                if worst > 1e-4 or differ:
                    failed.append((name, spelling))
            for dtype, limit in [("f32", 1e-6), ("bf16", 2e-2)]:
                out = work / f"converted-{dtype}"
                starling(binary, "convert", "--model", folder, "--out", out, "--dtype", dtype)
                back = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
                error = max(((a - b).abs() / b.abs().max().clamp(min=1e-9)).max().item()
                            for (_, a), (_, b) in zip(back.state_dict().items(), model.state_dict().items()))
                with torch.no_grad():
                    shift = (back(torch.tensor([texts[0]])).logits - model(torch.tensor([texts[0]])).logits).abs().max().item()
                print(f"{name}: saved as {dtype}, loaded by transformers: weights {error:.1e}, logits {shift:.1e}", flush=True)
                if error > limit:
                    failed.append((name, dtype))
            subprocess.run(["rm", "-rf", *map(str, work.glob("model*")), *map(str, work.glob("converted-*"))], check=True)
        if gguf:
            folder = work / "smollm2"
            starling(binary, "convert", "--model", gguf, "--out", folder)
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
            subjects = ["the sea", "a bridge", "winter", "my brother", "iron", "a city", "music", "the moon", "bread", "time"]
            forms = ["Write about {}.", "What is known of {}?", "Once, {}", "The price of {} is 1,234 and", "def f({}):"]
            prompts = [tokenizer(f.format(s))["input_ids"] for s in subjects for f in forms][:count]
            texts = [tokenizer(" ".join(f.format(s) for f in forms for s in subjects[i:i + 4]))["input_ids"] for i in range(4)]
            worst, differ = compare(binary, work, "SmolLM2-135M", model, folder, prompts, texts)
            if worst > 1e-4 or differ:
                failed.append(("SmolLM2-135M", ""))
            out = work / "smollm2-bf16"
            starling(binary, "convert", "--model", folder, "--out", out, "--dtype", "bf16")
            half = AutoModelForCausalLM.from_pretrained(out, dtype=torch.bfloat16)
            worst, differ = compare(binary, work, "SmolLM2-135M saved as bf16, transformers computes in bf16", half, out,
                                    prompts, texts)
            if worst > 2e-2 or differ:
                failed.append(("SmolLM2-135M", "bf16"))
            worst, differ = compare(binary, work, "SmolLM2-135M saved as bf16, transformers computes in f32", half.float(), out,
                                    prompts, texts)
            if worst > 1e-4 or differ:
                failed.append(("SmolLM2-135M", "weights in bf16"))
            write_rows(work / "texts.jsonl", [{"id": i, "text": tokenizer.decode(t)} for i, t in enumerate(texts)])
            starling(binary, "logprobs", "--model", folder, "--in", work / "texts.jsonl", "--out", work / "lp.jsonl")
            same = all(row["ids"] == text for row, text in zip(rows_of(work / "lp.jsonl"), texts))
            print(f"SmolLM2-135M: tokens as the tokenizer of transformers: {same}")
            if not same:
                failed.append(("SmolLM2-135M", "tokens"))
    print(f"torch {torch.__version__}, transformers {transformers.__version__}")
    if failed:
        sys.exit(f"failed: {failed}")
    print("all within the bars")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("golden").add_argument("folder", type=pathlib.Path)
    command = commands.add_parser("run")
    command.add_argument("binary")
    command.add_argument("--smollm2", type=pathlib.Path)
    command.add_argument("--prompts", type=int, default=50)
    command.add_argument("--only", default="", help="models whose name holds this")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    if arguments.command == "golden":
        golden(arguments.folder)
    else:
        run(arguments.binary, arguments.smollm2, arguments.prompts, arguments.only)


main()
