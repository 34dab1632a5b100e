#!/usr/bin/env bash
# Builds `starling` with CUDA, on a machine that needs neither a device nor CUDA: NVIDIA's compiler is taken from PyPI
# into .cuda/ (git-ignored, 270 MB; the packages are under NVIDIA's licence and are not part of this project).
#
#   scripts/cuda-build.sh                 compiler if it is not there, then `cargo build --release --features cuda`
#   scripts/cuda-build.sh --libraries     also cuBLAS and the runtime that a machine without CUDA needs (.cuda/run)
#   scripts/cuda-build.sh --compiler      the compiler alone
#
# CUDA_HOME, when set, names an installed toolkit to use instead. STARLING_CUDA_ARCHS lists the generations of devices
# to compile for, "80 90" unless set: Ampere's A100 and Hopper's H100 and H200; later ones compile the last one's PTX
# when they start. Arguments behind `--` go to cargo.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "cuda-build: $*" >&2; }
fail() { say "$*"; exit 1; }

libraries=no build=yes
while [ $# -gt 0 ]; do
  case $1 in
    --libraries) libraries=yes ;;
    --compiler) build=no ;;
    --) shift; break ;;
    *) fail "unknown argument $1; the beginning of this file lists what there is" ;;
  esac
  shift
done

# Name, version and SHA-256 of each wheel: release 13.0.2 of CUDA. A driver takes PTX only from a compiler that is not
# newer than itself, so this stays at 13.0 as long as drivers of the 580 series are in use.
compiler="
nvidia-cuda-nvcc 13.0.88 56fe502eb77625a12f25172caa3cdddb4e4c8ba2c8c17dba44b164761b380f03
nvidia-cuda-crt 13.0.88 2c8043c7c9e02492716426e9919fc78d2c5b3b2a7a768a88e952676b08aa55a4
nvidia-nvvm 13.0.88 c5f41ffeb6466944a026dfa5317d7d85355c119bbec279205d22f1869d1054e0
nvidia-cuda-runtime 13.0.96 7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548
nvidia-cuda-cccl 13.0.85 e0da7ad981f3a8aff08241b5bfc1af868742a63e2762f53a5171c492ef242649
"
runtime="
nvidia-cublas 13.1.0.3 ee8722c1f0145ab246bccb9e452153b5e0515fd094c3678df50b2a0888b8b171
"

# Puts the contents of wheels, given as lines above, into a folder; does nothing when they are there already.
bring() {
  local folder=$1 list=$2 wanted
  wanted=$(sha256sum <<<"$list" | cut -d' ' -f1)
  if [ "$(cat "$folder/.digest" 2>/dev/null || true)" = "$wanted" ]; then return; fi
  command -v python3 >/dev/null || fail "python3 with pip is needed to fetch NVIDIA's packages"
  local work
  work=$(mktemp -d)
  while read -r name version digest; do
    [ -z "$name" ] || echo "$name==$version --hash=sha256:$digest"
  done <<<"$list" >"$work/wanted.txt"
  say "fetching $(wc -l <"$work/wanted.txt") packages"
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
    --requirement "$work/wanted.txt" --dest "$work/wheels"
  rm -rf "$folder"
  mkdir -p "$folder"
  python3 - "$work/wheels" "$folder" <<'PYTHON'
import pathlib, sys, zipfile
wheels, folder = map(pathlib.Path, sys.argv[1:])
inside = "nvidia/cu13/"
for wheel in sorted(wheels.glob("*.whl")):
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            if member.is_dir() or not member.filename.startswith(inside):
                continue
            target = folder / member.filename[len(inside):]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(member))
            if "bin" in target.parts:
                target.chmod(0o755)
PYTHON
  rm -rf "$work"
  echo "$wanted" >"$folder/.digest"
}

[ "$(uname -sm)" = "Linux x86_64" ] || fail "builds on Linux on x86-64 only, this is $(uname -sm)"
command -v g++ >/dev/null || fail "g++ is needed: nvcc leaves the host's part of a file to it"

if [ -z "${CUDA_HOME:-}" ]; then
  bring .cuda/compiler "$compiler"
  # nvcc looks for its libraries there on 64-bit systems
  [ -e .cuda/compiler/lib64 ] || ln -s lib .cuda/compiler/lib64
  CUDA_HOME=$PWD/.cuda/compiler
fi
export CUDA_HOME
"$CUDA_HOME/bin/nvcc" --version | sed -n 4p >&2
if [ $libraries = yes ]; then
  bring .cuda/run "$runtime"
  say "cuBLAS: add $PWD/.cuda/run/lib to LD_LIBRARY_PATH to run"
fi
[ $build = yes ] || exit 0
cargo build --release --locked --features cuda "$@"
say "built $(realpath "${CARGO_TARGET_DIR:-target}")/release/starling"
