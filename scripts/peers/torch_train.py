#!/usr/bin/env python3
"""Training and decoding speed of PyTorch and transformers, for scripts/bench/lm.sh.

    torch_train.py train smollm2|qwen3-20m ce|ckd f32|bf16 [UPDATES]     4 sequences of 1,024 tokens, a loss everywhere
    torch_train.py head [POSITIONS]                                      head and distillation loss, vocabulary 151,936
    torch_train.py decode MODEL_FOLDER SEQUENCES [PROMPT] [NEW]          greedy, f32
"""

import resource
import sys
import time

import torch

torch.set_num_threads(2)


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def model_of(name):
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM
    if name == "smollm2":
        return LlamaForCausalLM(LlamaConfig(
            vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
            num_key_value_heads=3, max_position_embeddings=8192, tie_word_embeddings=True, rms_norm_eps=1e-5))
    return Qwen3ForCausalLM(Qwen3Config(
        vocab_size=16384, hidden_size=384, intermediate_size=1024, num_hidden_layers=8, num_attention_heads=6,
        num_key_value_heads=2, head_dim=64, max_position_embeddings=2048, tie_word_embeddings=True))


def ckd(logits, ids, logprobs, tail=10.0, top=100):
    """Forward divergence over the teacher's tokens and the mass of the student's own favourites outside them."""
    s = torch.log_softmax(logits.float(), -1)
    listed = s.gather(-1, ids)
    forward = (logprobs.exp() * (logprobs - listed)).sum(-1)
    own = s.topk(top, -1).indices
    marks = torch.zeros(s.shape, dtype=torch.bool).scatter_(-1, ids, True)
    stray = ~marks.gather(-1, own)
    return (forward + tail * (s.gather(-1, own).exp() * stray).sum(-1)).mean()


def teacher(shape, vocab, k=100):
    first = torch.randint(0, vocab, (*shape, 1))
    return (first + torch.arange(k)) % vocab, (-1.0 - 0.2 * torch.arange(k)).expand(*shape, k)


def train(name, loss_name, dtype, updates):
    torch.manual_seed(0)
    model = model_of(name)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95))
    vocab = model.config.vocab_size
    ids = torch.randint(0, vocab, (4, 1024))
    t_ids, t_logprobs = teacher((4, 1023), vocab)
    times = []
    for update in range(updates + 1):
        begin = time.time()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
            logits = model(ids).logits[:, :-1]
            if loss_name == "ce":
                loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten())
            else:
                loss = ckd(logits, t_ids, t_logprobs)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if update:
            times.append(time.time() - begin)
    mean = sum(times) / len(times)
    print(f"torch {torch.__version__} {name} {loss_name} {dtype}: {4096 / mean:.0f} tokens/s "
          f"(best {4096 / min(times):.0f}), peak {peak():.2f} GB")


def head(positions):
    hidden = torch.randn(positions, 1024, requires_grad=True)
    weight = (torch.randn(151936, 1024) * 0.02).requires_grad_()
    ids, logprobs = teacher((positions,), 151936)
    weight.grad = torch.zeros_like(weight)
    before = peak()
    begin = time.time()
    ckd(hidden @ weight.T, ids, logprobs).backward()
    print(f"torch {torch.__version__} head: {time.time() - begin:.2f} s for {positions} positions, "
          f"{(peak() - before) * 1000:.0f} MB beyond weights and gradients")


def decode(folder, sequences, prompt, new):
    import transformers
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.randint(0, 1000, (sequences, prompt))
    with torch.no_grad():
        begin = time.time()
        model.generate(ids, max_new_tokens=1, min_new_tokens=1, do_sample=False, pad_token_id=0, eos_token_id=None)
        first = time.time() - begin
        begin = time.time()
        model.generate(ids, max_new_tokens=new, min_new_tokens=new, do_sample=False, pad_token_id=0, eos_token_id=None)
        whole = time.time() - begin
    print(f"transformers {transformers.__version__} f32, {sequences} x ({prompt} + {new}): "
          f"prefill {sequences * prompt / first:.0f} tokens/s, decode {sequences * (new - 1) / (whole - first):.1f} tokens/s, "
          f"whole {sequences * new / whole:.1f} tokens/s, peak {peak():.2f} GB")


match sys.argv[1:]:
    case ["train", name, loss_name, dtype, *rest]:
        train(name, loss_name, dtype, int(rest[0]) if rest else 2)
    case ["head", *rest]:
        head(int(rest[0]) if rest else 2048)
    case ["decode", folder, sequences, *rest]:
        decode(folder, int(sequences), *([int(r) for r in rest] + [512, 128][len(rest):]))
    case _:
        sys.exit(__doc__)
