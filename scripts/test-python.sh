#!/usr/bin/env bash
# Builds the wheel, installs it into a virtual environment of its own, and runs the Python tests.
#
# LibTorch is that of `make setup`, standing where an installed torch has it, so that nothing of 3 GB is fetched. With
# TORCH=whole the whole of torch is installed from the package index, and the tests with modules of torch run, too.
# PROFILE=release builds as `make wheel` does; by default what `cargo test` has compiled is used. DOCS=1 makes pages of
# the docstrings instead of running the tests.
set -euo pipefail
cd "$(dirname "$0")/.."
target="${CARGO_TARGET_DIR:-target}"
mkdir -p "$target/python"
work="$(cd "$target/python" && pwd)"
python="$(command -v python3 || command -v python)" || { echo "python3 is needed" >&2; exit 1; }
if [ ! -x "$work/venv/bin/python" ]; then
  "$python" -m venv "$work/venv"
fi
venv="$work/venv/bin/python"
pip() { "$venv" -m pip --disable-pip-version-check --quiet "$@"; }
pip install "maturin>=1.9,<2" pytest ruff mypy numpy scikit-learn pandas polars pyarrow joblib tqdm

site="$("$venv" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')"
if [ "${TORCH:-}" = whole ]; then
  if [ -L "$site/torch" ]; then rm -rf "$site/torch" "$site/nvidia" "$site"/torch-*.dist-info; fi
  pip install "torch==2.11.*"
elif [ ! -e "$site/torch" ]; then
  libtorch="$(cd "${LIBTORCH:-.libtorch/torch}" && pwd)"
  ln -sfn "$libtorch" "$site/torch"
  if [ -e "$libtorch/../nvidia" ]; then ln -sfn "$(cd "$libtorch/../nvidia" && pwd)" "$site/nvidia"; fi
  mkdir -p "$site/torch-2.11.0.dist-info"
  printf 'Metadata-Version: 2.1\nName: torch\nVersion: 2.11.0\n' > "$site/torch-2.11.0.dist-info/METADATA"
  : > "$site/torch-2.11.0.dist-info/RECORD"
fi

rm -rf "$work/wheels"
"$venv" -m maturin build --profile "${PROFILE:-dev}" --compatibility linux --out "$work/wheels" --quiet
pip install --force-reinstall --no-deps "$work"/wheels/tweedie-*.whl
if [ -n "${DOCS:-}" ]; then
  pip install pdoc
  exec "$venv" -m pdoc tweedie -o "$target/doc/python"
fi
"$venv" -m ruff check --quiet python
"$venv" -m ruff format --check --quiet python
(cd python && "$venv" -m mypy --config-file ../pyproject.toml tweedie)
exec "$venv" -m pytest -q -p no:cacheprovider "$@" python/tests
