"""Checks a second of the official BFCL checker: the golden cases, decoded beforehand, on one core."""

import gzip
import json
import sys
import time
import types
from pathlib import Path

MODEL = "Qwen/Qwen3-0.6B-FC"

# The checker asks one flag of the model's configuration, whose module imports the client library of every vendor.
# The flag alone is put in its place: what is measured is the checker.
configuration = types.ModuleType("bfcl_eval.constants.model_config")
configuration.MODEL_CONFIG_MAPPING = {MODEL: types.SimpleNamespace(underscore_to_dot=False)}
sys.modules[configuration.__name__] = configuration

from bfcl_eval.constants.enums import Language
from bfcl_eval.eval_checker.ast_eval.ast_checker import ast_checker
from bfcl_eval.utils import load_dataset_entry, load_ground_truth_entry

CASES = Path(__file__).parents[2] / "tests/golden/bfcl/cases_public.jsonl.gz"

with gzip.open(CASES, "rt", encoding="utf-8") as lines:
    cases = [json.loads(line) for line in lines]
cases = [case for case in cases if isinstance(case.get("output"), list) and "relevance" not in case["category"]]
entries, answers = {}, {}
for category in sorted({case["category"] for case in cases}):
    entries |= {entry["id"]: entry for entry in load_dataset_entry(category, False, False)}
    answers |= {entry["id"]: entry["ground_truth"] for entry in load_ground_truth_entry(category)}


def language(category):
    if "javascript" in category:
        return Language.JAVASCRIPT
    return Language.JAVA if "java" in category else Language.PYTHON


work = [
    (entries[case["id"]]["function"], case["output"], answers[case["id"]], language(case["category"]), case["category"])
    for case in cases
    if case["id"] in entries and case["id"] in answers
]
best = 0.0
for _ in range(5):
    start = time.process_time()
    for functions, output, answer, kind, category in work:
        try:
            ast_checker(functions, output, answer, kind, category, MODEL)
        except Exception:  # The official checker stops on some rows.
            pass
    best = max(best, len(work) / (time.process_time() - start))
print(f"bfcl-eval ast_checker: {best:,.0f} checks a second (best of 5, {len(work)} cases)")
