#!/usr/bin/env bash
# What an ablation costs, and where the time of Sim-RL goes.
#
#   scripts/bench/cost.sh [micro|smollm2] [FOLDER]     # default micro, a temporary folder
#   WRAP="taskset -c 0,1" scripts/bench/cost.sh        # what the measured part is run under
#
# micro: the quickstart's world, teacher and untrained student. Four arms of CKD that differ in the tail's coefficient. The first
# pays for the teacher's answers and its top-k, the others find both in the store. Bar: the second arm is at least 5
# times cheaper than the first. For comparison a pass of `teacher-topk` over the same answers is timed, which is what
# recording on the way saves. Then 20 updates of Sim-RL, on the teacher, with the shares of its time; bar: reward at most
# 1 %.
# smollm2: only Sim-RL, from SmolLM2-135M-Instruct with two layers left out, on rows of xLAM (scripts/fetch-smollm2.sh).
# Seconds are those that the records of the stages hold.
set -euo pipefail
cd "$(dirname "$0")/../.."
size=${1:-micro}
profile=${PROFILE:-release}
if [ -z "${STARLING:-}" ]; then
  cargo build --quiet --profile "$profile" --bin starling
  STARLING=$(realpath "${CARGO_TARGET_DIR:-target}")/$([ "$profile" = dev ] && echo debug || echo "$profile")/starling
fi
work=${2:-$(mktemp -d /tmp/starling-cost.XXXXXX)}
[ $# -ge 2 ] || trap 'rm -rf "$work"' EXIT
mkdir -p "$work"

# The stages of a published pipeline that are needed, and the arms behind them.
python3 - "$size" "$work" <<'PYTHON'
import os, re, sys
size, work = sys.argv[1:]
source = {"micro": "pipelines/quickstart.toml", "smollm2": "pipelines/smollm2-xlam.toml"}[size]
text = open(source).read()
stages = {m.group(1): m.group(0) for m in re.finditer(r"^\[stage\.([\w-]+)\]\n(?:(?!\[|#).*\n)*", text, re.M)}
if size == "micro":
    before = ["world", "tokenizer", "train-rows", "teacher-init", "teacher", "student-init"]
    ckd = stages["ckd"].replace("base.model", "student-init.model")
    arms = [re.sub(r"^tail = .*$", f"tail = {tail}", ckd, flags=re.M).replace("[stage.ckd]", f"[stage.ckd-{n}]")
            for n, tail in enumerate(["1.0", "10.0", "100.0", "0.5"], 1)]
    read = '[stage.read]\nkind = "teacher-topk"\ninputs.teacher = "teacher.model"\ninputs.rollouts = "rollouts.rollouts"\ntop-k = 32\n'
    rl = re.sub(r"^updates = .*$", "updates = 20", stages["ckd-rl"], flags=re.M).replace("ckd.model", "teacher.model")
    steps = [stages["rollouts"], *arms, read, rl]
else:
    before = ["rows", "conversations", "sound", "split", "weights", "model", "train-rows", "student"]
    steps = [stages["ckd-rl"].replace("ckd.model", "student.model")]
absolute = lambda part: re.sub(r'^path = "(.*)"$', lambda m: f'path = "{os.path.abspath("pipelines/" + m.group(1))}"', part, flags=re.M)
common = "\n".join(absolute(stages[name]) for name in before)
open(f"{work}/before.toml", "w").write(common)
for number in range(len(steps)):
    open(f"{work}/step-{number}.toml", "w").write(common + "\n" + "\n".join(steps[: number + 1]))
print(len(steps), file=open(f"{work}/steps", "w"))
PYTHON

"$STARLING" --store "$work/store" run "$work/before.toml"
for ((number = 0; number < $(cat "$work/steps"); number++)); do
  # shellcheck disable=SC2086
  ${WRAP:-} "$STARLING" --store "$work/store" run --json "$work/step-$number.toml" > "$work/step-$number.jsonl"
done

python3 - "$size" "$work" "$STARLING" <<'PYTHON'
import json, re, subprocess, sys
size, work, starling = sys.argv[1:]
last = int(open(f"{work}/steps").read()) - 1
def seconds(stage):
    shown = subprocess.run([starling, "--store", f"{work}/store", "show", stage, "--json", "-p", f"{work}/step-{last}.toml"],
                           check=True, capture_output=True, text=True).stdout
    return json.loads(shown)["made"]["seconds"]
failed = []
if size == "micro":
    rollouts, arms, read = seconds("rollouts"), [seconds(f"ckd-{n}") for n in range(1, 5)], seconds("read")
    others = sorted(arms[1:])[1]
    print(f"teacher's answers with top-k {rollouts:.2f} s; training of the arms " + ", ".join(f"{s:.2f}" for s in arms) + " s")
    print(f"first arm {rollouts + arms[0]:.2f} s, further arms {others:.2f} s (median): {(rollouts + arms[0]) / others:.1f} times cheaper")
    print(f"a pass of the teacher over the same answers: {read:.2f} s, with it {(rollouts + read + arms[0]) / others:.1f} times")
    if rollouts + arms[0] < 5 * others:
        failed.append("a further arm is less than 5 times cheaper than the first")
text = open(f"{work}/step-{last}.jsonl").read()
shares = re.findall(r"time of updates: [^\"]*", text)
if not shares:
    sys.exit("Sim-RL told no shares; was its result there already?")
print(f"Sim-RL, {size}: {shares[-1]}")
reward = float(re.search(r"reward ([\d.]+) %", shares[-1]).group(1))
if reward > 1.0:
    failed.append(f"the reward takes {reward} % of an update")
sys.exit("; ".join(failed) if failed else 0)
PYTHON
