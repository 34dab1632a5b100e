# What the measuring scripts share; sourced from the repository's folder.

# Sets STARLING to the path of the command: as it is when it names a program that is built already, else what cargo
# builds in the profile PROFILE (release).
need_starling() {
  local profile=${PROFILE:-release}
  # cargo keeps the profile `dev` in a folder of another name
  local folder=${profile/#dev/debug}
  if [ -z "${STARLING:-}" ]; then
    cargo build --quiet --locked --profile "$profile" --bin starling
    STARLING=${CARGO_TARGET_DIR:-target}/$folder/starling
  fi
  STARLING=$(realpath "$STARLING")
}

# Puts the pipelines of the preparation into a folder, and the tokenizer that they read.
lay_out_preparation() {
  cp scripts/bench/source.toml scripts/bench/preparation.toml "$1/"
  gzip -dc tests/golden/qwen3-tokenizer/tokenizer.json.gz >"$1/tokenizer.json"
}
