"""Checks a second of ACEBench's own evaluator on one core, on the outputs that `cargo bench -p starling-bench` checks.

    official_acebench.py CHECKOUT

CHECKOUT is a clone of the authors' repository (https://github.com/ACEBench/ACEBench, August 2025), which is no package.
Only its decoder and its checker are imported: the program around them writes spreadsheets. What stands around the two
there is done here: white space is deleted, the calls are decoded, every accepted answer is tried. The entries with a
Special truth, which are a few searches of texts, are counted on both sides. Each output's verdict is compared with the
expected one before anything is timed.
"""

import gzip
import json
import sys
import time
import warnings
from pathlib import Path

if len(sys.argv) != 2 or not (Path(sys.argv[1]) / "model_eval/checker.py").is_file():
    sys.exit(f"usage: {sys.argv[0]} CHECKOUT, a clone of ACEBench that has model_eval/checker.py")
sys.path.insert(0, sys.argv[1])
warnings.simplefilter("ignore")

from model_eval.checker import normal_checker
from model_eval.utils import is_function_call_format_valid
from model_inference.utils import decode_ast

ROOT = Path(__file__).parents[2]
DATA = ROOT / "stages/bench/data/acebench"


def rows(path):
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def normal(entry, truth, category, output):
    try:
        calls = decode_ast("local", "".join(output.split()))
    except Exception:
        return "wrong_output_format"
    if not is_function_call_format_valid(calls):
        return "wrong_output_format"
    first = None
    for answer in truth if isinstance(truth, list) else [truth]:
        found = normal_checker(entry["function"], calls, answer, entry["question"], category)
        if found["valid"]:
            return ""
        first = first or found["error_type"]
    return first


def special(entry, truth, category, output):
    if "irrelevant" in category:
        return "" if "the limitations of the function" in output else "error_detection"
    incomplete = "incomplete" in category
    phrase = "Missing necessary parameters" if incomplete else "There is incorrect value"
    if phrase not in output:
        return "error_detection"
    for name, values in truth.items():
        if (incomplete and name not in output) or any(value not in output for value in values):
            return "error_correction"
    return ""


def work(language):
    entries, answers = {}, {}
    for path in sorted((DATA / language).glob("*.jsonl.gz")):
        category = path.name.removesuffix(".jsonl.gz")
        if category.startswith("agent"):
            continue
        entries |= {row["id"]: (row, category) for row in rows(path)}
        answers |= {row["id"]: row["ground_truth"] for row in rows(DATA / language / "answers" / path.name)}
    for case in rows(ROOT / "tests/golden/acebench/cases_public.jsonl.gz"):
        if case["lang"] == language:
            entry, category = entries[case["id"]]
            check = special if category.startswith("special") else normal
            yield check, (entry, answers[case["id"]], category, case["output"]), case["error_type"]


def measure(language, rounds=15):
    kept = []
    for check, arguments, expected in work(language):
        try:
            found = check(*arguments)
        except Exception as error:  # The evaluator stops on some outputs; they are not timed.
            found = f"crash:{type(error).__name__}"
        else:
            kept.append((check, arguments))
        if found != expected:
            sys.exit(f"{arguments[0]['id']}: {found!r}, but {expected!r} is expected; another version of the evaluator?")
    rates = []
    for _ in range(rounds):
        start = time.process_time()
        for check, arguments in kept:
            check(*arguments)
        rates.append(len(kept) / (time.process_time() - start))
    rates.sort()
    name = f"acebench checks, {language}, r2508"
    print(f"{name:<34} {rates[len(rates) // 2]:>10,.0f}/s median, {rates[-1]:>10,.0f}/s best of {rounds}", flush=True)


for language in ("en", "zh"):
    measure(language)
