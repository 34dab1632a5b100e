"""Checks a second of the official BFCL package on one core, on the workloads of `cargo bench -p starling-bench`.

The expected results give the outputs: decoded calls (checks), the same as a model writes them (decoding and checks),
the accepted calls of every dialogue (dialogues), and a whole stored run (decoding, execution and checks).
"""

import gzip
import json
import sys
import time
import types
from pathlib import Path

MODEL = "Qwen/Qwen3-0.6B-FC"
GOLDEN = Path(__file__).parents[2] / "tests/golden/bfcl"

# The checker asks one flag of the model's configuration, whose module imports the client library of every vendor.
# The flag alone is put in its place: what is measured is the checker.
configuration = types.ModuleType("bfcl_eval.constants.model_config")
configuration.MODEL_CONFIG_MAPPING = {MODEL: types.SimpleNamespace(underscore_to_dot=False)}
sys.modules[configuration.__name__] = configuration

from bfcl_eval.constants.enums import Language
from bfcl_eval.eval_checker.ast_eval.ast_checker import ast_checker
from bfcl_eval.eval_checker.multi_turn_eval import multi_turn_utils
from bfcl_eval.eval_checker.multi_turn_eval.multi_turn_checker import multi_turn_checker
from bfcl_eval.model_handler.local_inference.qwen_fc import QwenFCHandler
from bfcl_eval.utils import load_dataset_entry, load_ground_truth_entry

HANDLER = QwenFCHandler.__new__(QwenFCHandler)
MULTI_TURN = ["multi_turn_base", "multi_turn_miss_func", "multi_turn_miss_param", "multi_turn_long_context"]


def rows(name):
    with gzip.open(GOLDEN / name, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def language(category):
    if "javascript" in category:
        return Language.JAVASCRIPT
    return Language.JAVA if "java" in category else Language.PYTHON


def data(categories):
    entries, answers = {}, {}
    for category in categories:
        entries |= {entry["id"]: entry for entry in load_dataset_entry(category, False, False)}
        answers |= {entry["id"]: entry["ground_truth"] for entry in load_ground_truth_entry(category)}
    return entries, answers


def text(calls):
    blocks = []
    for call in calls:
        ((name, arguments),) = call.items()
        block = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
        blocks.append(f"<tool_call>\n{block}\n</tool_call>")
    return "\n".join(blocks)


def measure(name, work, rounds=5):
    rates = []
    for _ in range(rounds):
        start = time.process_time()
        count = work()
        rates.append(count / (time.process_time() - start))
    rates.sort()
    print(f"{name:<34} {rates[len(rates) // 2]:>10,.0f}/s median, {rates[-1]:>10,.0f}/s best of {rounds}", flush=True)


cases = rows("cases_public.jsonl.gz")
cases = [case for case in cases if isinstance(case.get("output"), list) and "relevance" not in case["category"]]
cases = [case for case in cases if all(isinstance(call, dict) and len(call) == 1 for call in case["output"])]
cases = [case for case in cases if all(isinstance(next(iter(call.values())), dict) for call in case["output"])]
entries, answers = data(sorted({case["category"] for case in cases}))


def checks(decode):
    work = []
    for case in cases:
        category, output = case["category"], case["output"]
        entry = (entries[case["id"]]["function"], answers[case["id"]], language(category), category)
        work.append((text(output) if decode else output, *entry))

    def run():
        for output, functions, answer, kind, category in work:
            try:
                if decode:
                    output = HANDLER.decode_ast(output, kind, False)
                ast_checker(functions, output, answer, kind, category, MODEL)
            except Exception:  # The official checker stops on some rows.
                pass
        return len(work)

    return run


measure("checks", checks(decode=False))
measure("decode_and_check", checks(decode=True))

for category in MULTI_TURN:
    entries, answers = data([category])

    def dialogues():
        for name, entry in entries.items():
            turns = answers[name]
            multi_turn_checker([[turn] for turn in turns], turns, entry, category, MODEL)
        # Instances are kept by name in the module for good: without this, the next round would go on with them.
        kept = vars(multi_turn_utils)
        for name in [name for name in kept if name.endswith("_instance")]:
            del kept[name]
        return len(entries)

    measure(category, dialogues, rounds=3)
