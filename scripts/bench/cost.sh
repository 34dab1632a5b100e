#!/usr/bin/env bash
# What an ablation costs, and where the time of Sim-RL goes.
#
#   scripts/bench/cost.sh [arms|micro|smollm2] [FOLDER]   # default arms, a temporary folder
#   WRAP="taskset -c 0,1" scripts/bench/cost.sh           # what each measured part is run under
#
# arms: two arms of CKD that differ in the tail's coefficient, on a seeded world, with a teacher some 13 times as large as
# the student (8B against 0.6B in the paper), 8 answers a prompt, five sampled for four learned from. The first arm pays for the
# teacher's answers with their top-k, the second finds them in the store. Beside them the published recipe, which pays for
# answers and for a reading by the teacher in every step of every arm. Bar: a further arm is at least 5 times cheaper than
# that. TEACHER and STUDENT ("HIDDEN LAYERS") and UPDATES (of the teacher, 500) change the sizes.
# micro, smollm2: 20 updates of Sim-RL on the quickstart's teacher, or 3 on SmolLM2-135M-Instruct with two layers left out and
# rows of xLAM (scripts/fetch-smollm2.sh), with the shares of their time; bar: reward at most 1 %.
# Parts that are in FOLDER's store already are not measured again: a run that was cut off goes on.
set -euo pipefail
cd "$(dirname "$0")/../.."
size=${1:-arms}
. scripts/bench/common.sh
need_starling
work=${2:-$(mktemp -d /tmp/starling-cost.XXXXXX)}
[ $# -ge 2 ] || trap 'rm -rf "$work"' EXIT
mkdir -p "$work"

# The pipelines: what is not measured, then one more stage in each.
python3 - "$size" "$work" <<'PYTHON'
import os, re, sys
size, work = sys.argv[1:]
source = {"smollm2": "pipelines/smollm2-xlam.toml"}.get(size, "pipelines/quickstart.toml")
stages = {m.group(1): m.group(0) for m in re.finditer(r"^\[stage\.([\w-]+)\]\n(?:(?!\[|#).*\n)*", open(source).read(), re.M)}
def stage(name, **changes):
    text = stages[name]
    for key, value in changes.items():
        key = key.replace("_", "-")
        text, found = re.subn(rf"^{key} = .*$", f"{key} = {value}", text, flags=re.M)
        text += "" if found else f"{key} = {value}\n"
    return re.sub(r'^path = "(.*)"$', lambda m: f'path = "{os.path.abspath("pipelines/" + m.group(1))}"', text, flags=re.M)
if size == "arms":
    teacher, student = (dict(zip(("hidden", "layers"), os.environ.get(name, sizes).split()))
                        for name, sizes in [("TEACHER", "192 4"), ("STUDENT", "64 2")])
    before = [stage("world"), stage("tokenizer"), stage("train-rows"), stage("teacher-init", **teacher),
              stage("teacher", updates=os.environ.get("UPDATES", "500"), batch=16), stage("student-init", **student)]
    # Five answers sampled for four learned from, as in star-0.6b.toml: 20,000 x 8 for 1,000 updates of 128.
    rollouts = stage("rollouts", prompts=200, samples=8)
    ckd = stage("ckd", updates=40, batch=32).replace("base.model", "student-init.model")
    arm = lambda name, text: text.replace("[stage.ckd]", f"[stage.{name}]")
    online = arm("online", ckd).replace("rollouts.rollouts", "bare.rollouts") + 'inputs.teacher = "teacher.model"\ntop-k = 32\n'
    steps = [rollouts, arm("first", ckd), arm("second", stage("ckd", updates=40, batch=32, tail="10.0").replace("base.model", "student-init.model")),
             stage("rollouts", prompts=200, samples=8, top_k=0).replace("[stage.rollouts]", "[stage.bare]"), online]
elif size == "micro":
    before = [stage(name) for name in ["world", "tokenizer", "train-rows", "teacher-init", "teacher"]]
    steps = [stage("ckd-rl", updates=20).replace("ckd.model", "teacher.model")]
else:
    before = [stage(name) for name in ["rows", "conversations", "sound", "split", "weights", "model", "train-rows", "student"]]
    steps = [stage("ckd-rl").replace("ckd.model", "student.model")]
common = "\n".join(before)
open(f"{work}/before.toml", "w").write(common)
for number in range(len(steps)):
    open(f"{work}/step-{number}.toml", "w").write(common + "\n" + "\n".join(steps[: number + 1]))
print(len(steps), file=open(f"{work}/steps", "w"))
PYTHON

"$STARLING" --store "$work/store" run "$work/before.toml"
for ((number = 0; number < $(cat "$work/steps"); number++)); do
  # shellcheck disable=SC2086
  ${WRAP:-} "$STARLING" --store "$work/store" run --json "$work/step-$number.toml" > "$work/step-$number.jsonl.new"
  # A cached step tells nothing new.
  if [ ! -s "$work/step-$number.jsonl" ] || grep -q "time of updates" "$work/step-$number.jsonl.new"; then
    mv "$work/step-$number.jsonl.new" "$work/step-$number.jsonl"
  fi
done

python3 - "$size" "$work" "$STARLING" <<'PYTHON'
import json, re, subprocess, sys
size, work, starling = sys.argv[1:]
last = int(open(f"{work}/steps").read()) - 1
def shown(stage):
    text = subprocess.run([starling, "--store", f"{work}/store", "show", stage, "--json", "-p", f"{work}/step-{last}.toml"],
                          check=True, capture_output=True, text=True).stdout
    return json.loads(text)
def seconds(stage):
    return shown(stage)["made"]["seconds"]
failed = []
if size == "arms":
    def parameters(stage):
        files = {f["file"]: f["path"] for f in shown(stage)["outputs"]["model"]["files"]}
        return next(w["parameters"] for w in json.load(open(files["lineage.json"])).values())
    report = json.load(open(shown("rollouts")["outputs"]["report"]["path"]))
    large, small = parameters("teacher-init"), parameters("student-init")
    print(f"teacher of {large:,} parameters, student of {small:,}: {large / small:.1f} times; {report['sampled']} answers of "
          f"{report['generated-tokens'] / report['sampled']:.0f} tokens, {report['kept']} kept; prompts of {report['prompt-tokens'] / report['prompts']:.0f} tokens")
    answers, one, two, bare, online = (seconds(s) for s in ["rollouts", "first", "second", "bare", "online"])
    print(f"answers with top-k {answers:.2f} s, training {one:.2f} s and {two:.2f} s")
    print(f"first arm {answers + one:.2f} s, second arm {two:.2f} s: {(answers + one) / two:.1f} times cheaper")
    print(f"published recipe, every arm: answers {bare:.2f} s, training with the teacher in the loop {online:.2f} s, together {bare + online:.2f} s: "
          f"the second arm is {(bare + online) / two:.1f} times cheaper")
    if bare + online < 5 * two:
        failed.append("a further arm is less than 5 times cheaper than the published recipe")
else:
    shares = re.findall(r"time of updates: [^\"]*", open(f"{work}/step-{last}.jsonl").read())
    if not shares:
        sys.exit("Sim-RL told no shares; was its result there already?")
    print(f"Sim-RL, {size}: {shares[-1]}")
    reward = float(re.search(r"reward ([\d.]+) %", shares[-1]).group(1))
    if reward > 1.0:
        failed.append(f"the reward takes {reward} % of an update")
sys.exit("; ".join(failed) if failed else 0)
PYTHON
