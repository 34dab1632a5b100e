"""llama.cpp for the scripts beside this one: whichever Python package of it is installed, behind one small class.

`xllamacpp` has prebuilt wheels (for AVX2 and FMA, without AVX-512) and talks through llama.cpp's own server;
`llama-cpp-python` is built on the machine, for its processor. The latter is taken when both are there, unless
LLAMA_CPP names one. `exact` keeps keys and values in f32, so that f32 is f32 throughout; else its own choices hold.
"""

import concurrent.futures
import json
import os
import urllib.request


def package():
    named = os.environ.get("LLAMA_CPP")
    for name in [named] if named else ["llama_cpp", "xllamacpp"]:
        try:
            return __import__(name)
        except ImportError:
            pass
    raise SystemExit("error: no llama.cpp here\n  try  pip install xllamacpp (prebuilt) or llama-cpp-python (compiles)")


def about():
    """Package, version and the instructions its build uses."""
    module = package()
    if module.__name__ == "xllamacpp":
        return f"xllamacpp {module.__version__}: {module.get_system_info().strip()}"
    return f"llama-cpp-python {module.__version__}: {module.llama_print_system_info().decode().strip()}"


def open_model(path, **settings):
    return (Served if package().__name__ == "xllamacpp" else Bound)(path, **settings)


class Served:
    """Through llama.cpp's server, in this process."""

    def __init__(self, path, sequences=1, context=1024, threads=2, exact=True):
        module = package()
        settings = module.CommonParams()
        settings.model.path = str(path)
        settings.n_parallel, settings.n_ctx = sequences, sequences * context
        settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = threads
        kind = module.ggml_type.GGML_TYPE_F32 if exact else module.ggml_type.GGML_TYPE_F16
        settings.cache_type_k = settings.cache_type_v = kind
        settings.flash_attn_type = module.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED if exact else settings.flash_attn_type
        settings.verbosity = -1
        self.server = module.Server(settings)
        self.sequences = sequences
        self.template = self._ask("/props").get("chat_template")

    def _ask(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.server.listening_address + path, data, {"content-type": "application/json"})
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def tokenize(self, text):
        return self._ask("/tokenize", {"content": text, "add_special": False, "parse_special": True})["tokens"]

    def render(self, messages):
        """The text of a conversation, by the file's own template."""
        return self._ask("/apply-template", {"messages": messages})["prompt"]

    def greedy(self, ids, count):
        """The likeliest tokens one by one (an end token is the last), each with the likeliest ten and their logprobs.

        The server tells no logprobs of tokens that end inside a character: nothing is listed for those.
        """
        answer = self._ask("/completion", {
            "prompt": ids, "n_predict": count, "temperature": 0.0, "samplers": ["temperature"], "n_probs": 10,
            "return_tokens": True, "cache_prompt": False})
        places, tops = answer["completion_probabilities"][::-1], []
        for token in answer["tokens"]:
            told = places.pop()["top_logprobs"] if places and places[-1]["id"] == token else []
            tops.append({entry["id"]: entry["logprob"] for entry in told})
        return answer["tokens"], tops

    def greedy_all(self, prompts, count):
        with concurrent.futures.ThreadPoolExecutor(self.sequences) as pool:
            return list(pool.map(lambda ids: self.greedy(ids, count), prompts))

    def decode(self, prompts, count):
        """Continues all prompts at once, past end tokens; the seconds are the caller's to take."""
        def one(ids):
            answer = self._ask("/completion", {
                "prompt": ids, "n_predict": count, "temperature": 0.0, "samplers": ["temperature"],
                "ignore_eos": True, "cache_prompt": False})
            assert answer["tokens_predicted"] == count and answer["tokens_evaluated"] == len(ids), answer["timings"]
        with concurrent.futures.ThreadPoolExecutor(len(prompts)) as pool:
            list(pool.map(one, prompts))


class Bound:
    """Through llama-cpp-python; only `decode` takes several sequences at once."""

    def __init__(self, path, sequences=1, context=1024, threads=2, exact=True):
        kind = 0 if exact else 1  # GGML_TYPE_F32, GGML_TYPE_F16
        self.kind, self.threads = kind, threads
        self.llama = package().Llama(str(path), n_ctx=context, n_threads=threads, n_threads_batch=threads, type_k=kind,
                                     type_v=kind, verbose=False, logits_all=False)
        self.template = self.llama.metadata.get("tokenizer.chat_template")

    def tokenize(self, text):
        return self.llama.tokenize(text.encode(), add_bos=False, special=True)

    def render(self, messages):
        from llama_cpp.llama_chat_format import Jinja2ChatFormatter
        word = lambda id: self.llama._model.token_get_text(id)
        formatter = Jinja2ChatFormatter(self.template, eos_token=word(self.llama.token_eos()),
                                        bos_token=word(self.llama.token_bos()))
        return formatter(messages=messages).prompt

    def _scores(self):
        import numpy
        llama = package()
        pointer = llama.llama_get_logits_ith(self.llama._ctx.ctx, -1)
        return numpy.ctypeslib.as_array(pointer, shape=(self.llama.n_vocab(),))

    def greedy(self, ids, count):
        import numpy
        self.llama.reset()
        self.llama.eval(ids)
        made, tops = [], []
        for _ in range(count):
            scores = self._scores().astype(numpy.float64)
            logprobs = scores - scores.max()
            logprobs -= numpy.log(numpy.exp(logprobs).sum())
            best = [int(id) for id in numpy.argsort(-logprobs)[:10]]
            made.append(best[0])
            tops.append({id: float(logprobs[id]) for id in best})
            if best[0] == self.llama.token_eos():
                break
            self.llama.eval(made[-1:])
        return made, tops

    def greedy_all(self, prompts, count):
        return [self.greedy(ids, count) for ids in prompts]

    def decode(self, prompts, count):
        """Continues all prompts at once: each step reads a token of every sequence in one batch."""
        import numpy
        llama, model = package(), self.llama._model.model
        settings = llama.llama_context_default_params()
        settings.n_ctx = len(prompts) * (max(map(len, prompts)) + count + 1)
        settings.n_seq_max, settings.n_batch = len(prompts), 2048
        settings.n_threads = settings.n_threads_batch = self.threads
        settings.type_k = settings.type_v = self.kind
        context = llama.llama_init_from_model(model, settings)
        assert context, "llama.cpp gave no context"
        batch = llama.llama_batch_init(2048, 0, 1)

        def read(entries):  # (sequence, position, token, whether its logits are wanted)
            for first in range(0, len(entries), 2048):
                part = entries[first:first + 2048]
                batch.n_tokens = len(part)
                for at, (sequence, position, token, wanted) in enumerate(part):
                    batch.token[at], batch.pos[at], batch.logits[at] = token, position, wanted
                    batch.n_seq_id[at], batch.seq_id[at][0] = 1, sequence
                assert llama.llama_decode(context, batch) == 0, "llama.cpp could not decode"
                for at, (sequence, _, _, wanted) in enumerate(part):
                    if wanted:
                        logits = llama.llama_get_logits_ith(context, at)
                        likeliest[sequence] = int(numpy.ctypeslib.as_array(logits, shape=(self.llama.n_vocab(),)).argmax())

        likeliest = [0] * len(prompts)
        read([(sequence, at, token, at + 1 == len(ids)) for sequence, ids in enumerate(prompts) for at, token in enumerate(ids)])
        for step in range(count - 1):
            read([(sequence, len(ids) + step, likeliest[sequence], True) for sequence, ids in enumerate(prompts)])
        llama.llama_batch_free(batch)
        llama.llama_free(context)
        return likeliest


if __name__ == "__main__":
    print(about())
