#!/usr/bin/env python3
"""What `tweedie train --marginals` is worth: test log-likelihood and anomalies found, table by table.

    python benches/peers/marginals.py --work DIR TABLE...          one JSON line per table and choice

TABLE is an .npz with X and, where anomalies are known, y (1 = anomaly), as in ADBench; or a file of
numbers with a header (CSV) or without (.txt, separated by blanks), whose text columns and incomplete
rows are left out. NAME=TABLE gives it a name.

Every choice is trained on the same rows, with the same columns, the same seed and the same number of
iterations, on one thread. Duplicate rows are dropped. At most --rows rows that are no anomalies are drawn
(seed 0): 60 % for training, 10 % for validation, 30 % for the test. Anomalies (at most --anomalies) are
never trained on.

Columns whose values lie on a regular grid of fewer than 2^14 steps, with fewer distinct values than half
the rows, are dequantised (`--dequantize`). Columns that are not, and take one value in more than 5 % of
the training rows or fewer than 20 distinct values, have no density and are left out; so are constant ones
and those that repeat another (correlation above .999). `columns` and `dequantised` count what is left.

Fields
  nats       mean log-likelihood of the test rows, data's own units (ELBO, --steps steps), a lower bound
  error      its standard error over rows
  minimum    the lowest of them
  auroc      of all test rows and anomalies, ranked by log-likelihood; `knn`: by the distance to the fifth
             nearest training row in standardised columns (without dequantisation noise)
  chosen     how many columns are gaussianised
  seconds    of the training, base included
"""

import argparse
import csv
import json
import math
import os
import pathlib
import shutil
import subprocess
import sys
import time

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors


def fail(message):
    sys.exit(f"marginals: {message}")


def number(text):
    try:
        return float(text)
    except ValueError:
        return math.nan


def read(path):
    """Rows, their labels (None if there are none) and the columns' names."""
    if path.suffix == ".npz":
        held = np.load(path, allow_pickle=False)
        names = [f"x{k}" for k in range(1, held["X"].shape[1] + 1)]
        return held["X"].astype(float), held["y"].ravel().astype(int), names
    if path.suffix == ".csv":
        with open(path, newline="") as file:
            header, *lines = [row for row in csv.reader(file) if row]
    else:
        lines = [line.split() for line in path.read_text().splitlines() if line.strip()]
        header = [f"x{k}" for k in range(1, len(lines[0]) + 1)]
    cells = np.array([[number(cell) for cell in line] for line in lines])
    numeric = np.isfinite(cells).mean(0) > 0.5
    cells = cells[:, numeric]
    complete = np.isfinite(cells).all(1)
    return cells[complete], None, [name for name, keep in zip(header, numeric) if keep]


def on_grid(values):
    """Whether the distinct values lie on a regular grid that single precision can hold."""
    distinct = np.unique(values)
    gaps = np.diff(distinct)
    rounding = 2.0**-22 * np.abs(distinct).max()
    if len(distinct) < 3 or rounding > 0.1 * gaps.min() or (distinct[-1] - distinct[0]) / gaps.min() > 2**14:
        return False
    steps = np.round(gaps / gaps.min()).sum()
    bin = (distinct[-1] - distinct[0]) / steps
    offsets = (distinct - distinct[0]) / bin
    return bool((np.abs(offsets - np.round(offsets)) * bin <= rounding + 1e-6 * bin).all())


class Split:
    """The parts of a table as files, and which columns are dequantised."""

    def __init__(self, name, path, folder, options):
        rows, labels, names = read(path)
        rows = rows.astype(np.float32).astype(float)
        labels = np.zeros(len(rows), dtype=int) if labels is None else labels
        _, first = np.unique(rows, axis=0, return_index=True)
        rows, labels = rows[np.sort(first)], labels[np.sort(first)]
        rng = np.random.default_rng(0)
        usual, odd = (rng.permutation(np.flatnonzero(labels == label)) for label in (0, 1))
        usual, odd = usual[: options.rows], odd[: options.anomalies]
        train, held = len(usual) * 6 // 10, len(usual) * 7 // 10
        parts = {"train": usual[:train], "validation": usual[train:held], "test": usual[held:], "odd": odd}
        self.keep, self.dequantised = [], []
        for k, column in enumerate(names):
            of_train = rows[parts["train"], k]
            distinct, counts = np.unique(of_train, return_counts=True)
            if len(distinct) < 2 or len(np.unique(rows[parts["validation"], k])) < 2:
                continue
            every = rows[np.concatenate(list(parts.values())), k]
            if len(distinct) < len(of_train) / 2 and on_grid(every):
                self.dequantised.append(column)
            elif len(distinct) < 20 or counts.max() > 0.05 * len(of_train):
                continue
            of_train = of_train - of_train.mean()
            others = (rows[parts["train"], other] for other in self.keep)
            if any(abs(np.corrcoef(of_train, other)[0, 1]) > 0.999 for other in others):
                if self.dequantised[-1:] == [column]:
                    self.dequantised.pop()
                continue
            self.keep.append(k)
        self.name, self.folder, self.left_out = name, folder, len(names) - len(self.keep)
        self.parts = {part: rows[chosen][:, self.keep] for part, chosen in parts.items()}
        folder.mkdir(parents=True, exist_ok=True)
        for part, values in self.parts.items():
            with open(folder / f"{part}.csv", "w", newline="") as file:
                lines = csv.writer(file, lineterminator="\n")
                lines.writerow([names[k] for k in self.keep])
                lines.writerows([[f"{v:.9g}" for v in row] for row in values])

    def knn(self):
        mean, sd = self.parts["train"].mean(0), self.parts["train"].std(0)
        nearest = NearestNeighbors(n_neighbors=5).fit((self.parts["train"] - mean) / sd)
        score = lambda part: -nearest.kneighbors((self.parts[part] - mean) / sd)[0][:, -1]
        return score("test"), score("odd")


def auroc(test, odd):
    return round(roc_auc_score([0] * len(test) + [1] * len(odd), -np.concatenate([test, odd])), 4)


def call(options, *words):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([options.tweedie, *map(str, words)], capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return done.stdout


def measure(split, choice, options):
    folder = split.folder
    run = folder / choice.replace("=", "-").replace(",", "-")
    shutil.rmtree(run, ignore_errors=True)
    dequantize = ("--dequantize", ",".join(split.dequantised)) if split.dequantised else ()
    shared = ("--threads", 1, "--quiet")
    start = time.monotonic()
    call(options, "train", "--data", folder / "train.csv", "--validation", folder / "validation.csv", "--out", run,
         "--marginals", choice, "--iterations", options.iterations, "--seed", options.seed, *dequantize, *shared)
    seconds = time.monotonic() - start
    scores = {}
    for part in ("test", "odd"):
        if len(split.parts[part]) == 0:
            continue
        out = folder / f"{part}-scores.csv"
        call(options, "score", run, folder / f"{part}.csv", "-o", out, "--steps", options.steps, "--draws", 2, *shared)
        with open(out, newline="") as file:
            scores[part] = np.array([number(row["log_likelihood"]) for row in csv.DictReader(file)])
    test = scores["test"]
    columns = json.loads((run / "data.json").read_text())["scaling"]["columns"]
    result = {
        "table": split.name,
        "marginals": choice,
        "rows": [len(split.parts[part]) for part in ("train", "validation", "test", "odd")],
        "columns": len(split.keep),
        "left_out": split.left_out,
        "dequantised": len(split.dequantised),
        "chosen": sum("gaussianize" in column["map"] for column in columns),
        "nats": round(test.mean(), 3),
        "error": round(test.std(ddof=1) / math.sqrt(len(test)), 3),
        "minimum": round(test.min(), 1),
        "seconds": round(seconds, 1),
    }
    if "odd" in scores:
        result["auroc"] = auroc(test, scores["odd"])
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="+", metavar="[NAME=]TABLE")
    parser.add_argument("--work", type=pathlib.Path, required=True, help="where splits and runs go")
    parser.add_argument("--tweedie", default="target/release/tweedie", help="the program")
    parser.add_argument("--marginals", default="standardize,gaussianize,auto", help="of train's choices")
    parser.add_argument("--rows", type=int, default=5000, help="at most, anomalies apart (default 5000)")
    parser.add_argument("--anomalies", type=int, default=1000, help="at most (default 1000)")
    parser.add_argument("--iterations", type=int, default=600, help="of the optimiser (default 600)")
    parser.add_argument("--steps", type=int, default=50, help="of the ELBO (default 50)")
    parser.add_argument("--seed", type=int, default=0, help="of the training (default 0)")
    options = parser.parse_args()
    for text in options.tables:
        name, _, path = text.rpartition("=")
        path = pathlib.Path(path)
        if not path.is_file():
            fail(f"{path} is missing")
        split = Split(name or path.stem, path, options.work / (name or path.stem), options)
        if len(split.parts["odd"]):
            knn = auroc(*split.knn())
            print(json.dumps({"table": split.name, "marginals": "knn", "auroc": knn}), flush=True)
        for choice in options.marginals.split(","):
            try:
                print(json.dumps(measure(split, choice, options)), flush=True)
            except RuntimeError as error:
                print(json.dumps({"table": split.name, "marginals": choice, "error": str(error)}), flush=True)


if __name__ == "__main__":
    main()
