#!/usr/bin/env bash
# Puts LibTorch 2.11.0 (CPU) where the build looks for it: .libtorch -> the user's cache.
#
# The PyPI wheels are used as archives: nothing of Python runs at build or run time. A second call
# does nothing; a second clone links to the same cache. With LIBTORCH_USE_PYTORCH=1 (a PyTorch 2.11
# you already have) or your own LIBTORCH there is nothing to do.
set -euo pipefail
cd "$(dirname "$0")/.."

version=2.11.0
if [ -n "${LIBTORCH_USE_PYTORCH:-}" ]; then echo "LibTorch: from the PyTorch of your Python"; exit 0; fi
if [ -n "${LIBTORCH:-}" ]; then echo "LibTorch: $LIBTORCH"; exit 0; fi
if [ -e .libtorch/torch/build-version ]; then exit 0; fi

say() { echo "setup: $*" >&2; }
die() { say "$*"; exit 1; }

case "$(uname -s)-$(uname -m)" in
  Linux-x86_64)
    platforms=(manylinux_2_28_x86_64 manylinux_2_25_x86_64 manylinux_2_17_x86_64)
    wheels=("torch==$version" nvidia-cuda-runtime==13.0.96 nvidia-cuda-cupti==13.0.85)
    ;;
  Darwin-arm64)
    platforms=(macosx_14_0_arm64 macosx_11_0_arm64)
    wheels=("torch==$version")
    ;;
  *) die "no LibTorch $version wheel for $(uname -s) $(uname -m): install PyTorch $version and set LIBTORCH_USE_PYTORCH=1" ;;
esac

cache="${TWEEDIE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tweedie}/libtorch-$version-cpu"
if [ ! -e "$cache/torch/build-version" ]; then
  python="$(command -v python3 || command -v python)" || die "pip is needed to fetch LibTorch: install python3 and pip"
  "$python" -m pip --version >/dev/null 2>&1 || die "pip is needed to fetch LibTorch: install python3-pip"
  mkdir -p "$(dirname "$cache")"
  work="$(mktemp -d "$(dirname "$cache")/libtorch.XXXXXX")"
  trap 'rm -rf "$work"' EXIT
  say "fetching LibTorch $version (about 540 MB, once per user)"
  # A wheel is named by version and pinned by digest; the Python version only picks which of the
  # equal copies is fetched, so that the digest does not depend on the Python found here.
  "$python" -m pip download --disable-pip-version-check --no-deps --only-binary=:all: \
    --python-version 3.12 --implementation cp "${platforms[@]/#/--platform=}" -d "$work/wheels" "${wheels[@]}" >&2
  say "checking digests"
  for wheel in "$work"/wheels/*.whl; do
    expected="$(awk -v name="$(basename "$wheel")" '$2 == name { print $1 }' scripts/libtorch.sha256)"
    [ -n "$expected" ] || die "$(basename "$wheel") is not listed in scripts/libtorch.sha256"
    actual="$( (sha256sum "$wheel" 2>/dev/null || shasum -a 256 "$wheel") | cut -d' ' -f1)"
    [ "$actual" = "$expected" ] || die "$(basename "$wheel"): digest $actual, expected $expected; nothing was installed"
  done
  say "unpacking into $cache"
  "$python" - "$work" <<'PY'
import os, sys, zipfile
work = sys.argv[1]
gpu = ("libtorch_cuda", "libc10_cuda", "libtorch_nvshmem", "libtorch_python", "libcaffe2_nvrtc", "libshm")
for name in os.listdir(work + "/wheels"):
    with zipfile.ZipFile(work + "/wheels/" + name) as wheel:
        for entry in wheel.namelist():
            wanted = entry.startswith(("torch/lib/", "torch/include/", "nvidia/cu13/lib/"))
            if wanted and not os.path.basename(entry).startswith(gpu):
                wheel.extract(entry, work + "/out")
PY
  rm -rf "$work/wheels"
  echo "$version" > "$work/out/torch/build-version"
  rm -rf "$cache"
  mv "$work/out" "$cache"
fi
[ ! -e .libtorch ] || [ -L .libtorch ] || die ".libtorch exists and is not a link made by this script: move it away"
ln -sfn "$cache" .libtorch
say "LibTorch $version ready in $cache"
