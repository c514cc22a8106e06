#!/usr/bin/env python3
"""Splits .data/TABLE.csv into .data/splits/TABLE/{train,validation,test}.csv, 80/10/10.

The label (the last column, named `class` or `label`) is dropped, then duplicate rows are. A row's
place is decided by the SHA-256 of the seed and the row's own text, so the split depends on nothing
else: neither on the order of the file nor on a random generator's version. Values are copied
as text: integers stay integers, and whoever reads them dequantises (v + u - 1/2, u uniform on [0, 1)).

MAGIC here is the gamma telescope table (18,905 distinct rows, 10 columns). It is NOT one of the UCI
sets of the normalizing-flow papers (POWER, GAS, HEPMASS, MINIBOONE, BSDS300): its figures can be
compared with those of this project only.

    python3 scripts/prepare_splits.py                      every table in .data/
    python3 scripts/prepare_splits.py --seed 1 magic       one table, another split
"""

import argparse
import csv
import hashlib
import json
import os
import pathlib
import sys

LABELS = ("class", "label")


def fail(message):
    sys.exit(f"splits: {message}")


def read(path):
    """Header and rows of a CSV file, without the label."""
    with open(path, newline="") as file:
        lines = csv.reader(file)
        header = next(lines, None) or fail(f"{path} is empty: delete it and run scripts/fetch-data.sh")
        keep = len(header) - (header[-1] in LABELS)
        rows = []
        for row in lines:
            if len(row) != len(header):
                fail(f"{path}, line {lines.line_num}: {len(row)} fields, expected {len(header)}")
            rows.append(tuple(row[:keep]))
    return header[:keep], rows


def place(row, seed):
    return hashlib.sha256(f"{seed}\n{','.join(row)}".encode()).digest()


def split(rows, seed):
    """Train, validation and test: 80/10/10 of the distinct rows, in the order of their hashes."""
    rows = sorted(set(rows), key=lambda row: place(row, seed))
    train, held = len(rows) * 8 // 10, len(rows) // 10
    return {"train": rows[:train], "validation": rows[train : train + held], "test": rows[train + held :]}


def write(path, text):
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text)
    os.replace(partial, path)


def main():
    root = pathlib.Path(__file__).resolve().parent.parent / ".data"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", metavar="TABLE", help="names without .csv (default: all in DATA)")
    parser.add_argument("--data", type=pathlib.Path, default=root, metavar="DIR", help="where TABLE.csv lie (default: .data)")
    parser.add_argument("--out", type=pathlib.Path, metavar="DIR", help="default: DATA/splits")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    out = options.out or options.data / "splits"
    tables = options.tables or sorted(path.stem for path in options.data.glob("*.csv"))
    if not tables:
        fail(f"no CSV file in {options.data}: run scripts/fetch-data.sh")
    for table in tables:
        source = options.data / f"{table}.csv"
        if not source.is_file():
            fail(f"{source} is missing: run scripts/fetch-data.sh")
        header, rows = read(source)
        parts = split(rows, options.seed)
        folder = out / table
        folder.mkdir(parents=True, exist_ok=True)
        for name, part in parts.items():
            write(folder / f"{name}.csv", "\n".join(",".join(row) for row in [header, *part]) + "\n")
        counts = {name: len(part) for name, part in parts.items()}
        duplicates = len(rows) - sum(counts.values())
        write(folder / "split.json", json.dumps({"table": table, "seed": options.seed, "duplicates": duplicates, **counts}) + "\n")
        print(f"{table}: {len(header)} columns, " + ", ".join(f"{n} {c}" for n, c in counts.items()) + f", {duplicates} duplicates dropped")


if __name__ == "__main__":
    main()
