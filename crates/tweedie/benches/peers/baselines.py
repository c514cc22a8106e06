#!/usr/bin/env python3
"""Classical densities and a spline flow on the files that tweedie reads; one JSON line per result.

    python benches/peers/baselines.py .data/splits/magic --seconds 165 --threads 1

A SPLIT directory holds train.csv, validation.csv and test.csv (scripts/prepare_splits.py). Quantised
columns are dequantised, v + step * (u - 1/2), u uniform on [0, 1); then every column is standardised by
the mean and standard deviation of the (dequantised) training rows. With --scaling RUN, a run of `tweedie
train` on the same train.csv, every method gets what tweedie got: the run's grids and its maps, column by
column, gaussianised ones too; their log-derivatives are counted. Each method is chosen on the validation
rows; the test rows are read once, at the end.

Methods
  gaussian   full covariance, maximum likelihood
  kde        Gaussian kernel, isotropic or of the training covariance's shape; shape and bandwidth by validation
  mixture    scikit-learn GaussianMixture, full covariances; number of components, ridge, start and
             number of EM iterations by validation, as far as --seconds go
  flow       zuko's autoregressive neural spline flow; Adam, learning rate falling by cosine over the
             --seconds and by 0.3 at a plateau, the best validation step kept; fresh dequantisation noise per batch

Fields
  test_nats, test_nats_standardised, test_std_error    mean log-likelihood of a test row, in the data's own
             units and in the units of the maps (they differ by the mean log-derivative of the maps,
             -log_sd_sum), and the standard error of the first
  validation_nats_standardised    what the choice was made by: biased upwards by the choosing
  seconds    wall clock (or, with --clock cpu, processor time) of training and choosing, without reading and the test; --seconds bounds mixture and flow
  dequantised    column: step
  gaussianised   columns whose map, of --scaling, is a spline
"""

import argparse
import copy
import csv
import json
import math
import pathlib
import sys
import time
import warnings

import numpy as np
import torch
from scipy.linalg import solve_triangular
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits
from zuko.flows import NSF

PARTS = ("train", "validation", "test")


def fail(message):
    sys.exit(f"baselines: {message}")


def note(message):
    print(message, file=sys.stderr, flush=True)


# Data


class Affine:
    """(x - mean) / sd."""

    def __init__(self, mean, sd):
        self.mean, self.sd = mean, sd

    def __call__(self, x):
        return (x - self.mean) / self.sd, np.full(len(x), -math.log(self.sd))


class Spline:
    """Rational-quadratic between knots, linear outside (tweedie's src/data/spline.rs); value and log-derivative."""

    def __init__(self, x, y, slope):
        self.x, self.y, self.slope = (np.array(part) for part in (x, y, slope))

    def __call__(self, x):
        k = np.clip(np.searchsorted(self.x, x, side="right"), 1, len(self.x) - 1) - 1
        width, height = self.x[k + 1] - self.x[k], self.y[k + 1] - self.y[k]
        s0, s1, chord = self.slope[k], self.slope[k + 1], height / width
        u = np.clip((x - self.x[k]) / width, 0, 1)
        v = 1 - u
        bottom = chord + (s0 + s1 - 2 * chord) * u * v
        y = self.y[k] + height * (chord * u * u + s0 * u * v) / bottom
        derivative = (chord / bottom) ** 2 * (s1 * u * u + 2 * chord * u * v + s0 * v * v)
        # linear with the slope of the outermost knot
        y = y + np.where(x < self.x[0], self.slope[0] * (x - self.x[0]), 0)
        y = y + np.where(x > self.x[-1], self.slope[-1] * (x - self.x[-1]), 0)
        return y, np.log(derivative)


def maps_of(run, header):
    """The steps of dequantised columns and the maps of a run of tweedie."""
    columns = json.loads((run / "data.json").read_text())["scaling"]["columns"]
    if [column["column"]["name"] for column in columns] != header:
        fail(f"--scaling: {run} was not trained on the columns {', '.join(header)}")
    steps = np.array([column["grid"]["bin"] if column["grid"] else 0.0 for column in columns])
    maps = []
    for column in columns:
        ((kind, parameters),) = column["map"].items()
        affine = kind == "affine"
        maps.append(Affine(parameters["shift"], parameters["scale"]) if affine else Spline(**parameters))
    return steps, maps


class Table:
    """Three parts of a table: raw rows, the step of each column's grid (0: not dequantised), scaled rows."""

    def __init__(self, folder, dequantize, seed, run):
        self.name = folder.name
        texts = {}
        for part in PARTS:
            path = folder / f"{part}.csv"
            if not path.is_file():
                fail(f"{path} is missing: run scripts/fetch-data.sh and scripts/prepare_splits.py")
            with open(path, newline="") as file:
                header, *texts[part] = list(csv.reader(file))
        self.columns = header
        self.raw = {part: np.array(rows, dtype=np.float64) for part, rows in texts.items()}
        self.steps, self.maps = maps_of(run, header) if run else (quantisation(header, texts["train"], dequantize), None)

        # One generator per part, so that a part's noise depends on the seed alone.
        self.noisy = {p: self.dequantised(self.raw[p], np.random.default_rng([seed, i])) for i, p in enumerate(PARTS)}
        if self.maps is None:
            mean, sd = self.noisy["train"].mean(0), self.noisy["train"].std(0)
            if not (sd > 0).all():
                fail(f"{folder}: column {header[int(sd.argmin())]} is constant: drop it")
            self.maps = [Affine(*of_column) for of_column in zip(mean, sd)]
        scaled = {part: self.scaled(rows) for part, rows in self.noisy.items()}
        self.x = {part: x for part, (x, _) in scaled.items()}
        self.log_derivative = {part: sums for part, (_, sums) in scaled.items()}

    def scaled(self, rows):
        """Rows in the units of the maps, and the sum of their log-derivatives, row by row."""
        parts = [of_column(rows[:, k]) for k, of_column in enumerate(self.maps)]
        return np.stack([x for x, _ in parts], 1), sum(derivative for _, derivative in parts)

    def dequantised(self, rows, rng):
        return rows + self.steps * (rng.random(rows.shape) - 0.5)


def quantisation(header, rows, dequantize):
    """The step of each column to dequantise, 0 for the others.

    integers: columns of integers, step 1. auto: also decimals (step: their last digit) that take fewer
    distinct values than half the rows. none. Or the names of columns, separated by commas.
    """
    named = set() if dequantize in ("auto", "integers", "none") else set(dequantize.split(","))
    if named - set(header):
        fail(f"--dequantize: no column {sorted(named - set(header))[0]}; there are {', '.join(header)}")
    steps = []
    for name, values in zip(header, zip(*rows)):
        digits = max(len(v.partition(".")[2]) for v in values) if not any("e" in v.lower() for v in values) else None
        integers = all(float(v).is_integer() for v in values)
        coarse = digits is not None and len(set(values)) < len(values) / 2
        wanted = name in named or (integers and dequantize in ("auto", "integers")) or (coarse and dequantize == "auto")
        if wanted and digits is None:
            fail(f"--dequantize: the step of column {name} cannot be read off values like 1e-5")
        steps.append((1.0 if integers else 10.0**-digits) if wanted else 0.0)
    return np.array(steps)


# Methods: (table, options) -> validation log-likelihoods, a function of rows giving theirs, what was chosen


def gaussian(table, options):
    x = table.x["train"]
    mean, factor = x.mean(0), np.linalg.cholesky(np.cov(x.T, bias=True))

    def log_prob(rows):
        z = solve_triangular(factor, (rows - mean).T, lower=True)
        return -0.5 * (z**2).sum(0) - np.log(np.diag(factor)).sum() - 0.5 * len(mean) * math.log(2 * math.pi)

    return log_prob(table.x["validation"]), log_prob, {}


def kde(table, options):
    train = table.x["train"]
    n, d = train.shape
    shapes = {"isotropic": np.eye(d), "covariance": np.linalg.cholesky(np.cov(train.T, bias=True))}

    def squared_distances(rows, factor):
        a, b = (torch.from_numpy(solve_triangular(factor, part.T, lower=True).T.copy()) for part in (rows, train))
        return torch.cdist(a, b, compute_mode="use_mm_for_euclid_dist").square_()

    def log_kernel_mean(distances, factor, h):
        constant = math.log(n) + d * math.log(h) + 0.5 * d * math.log(2 * math.pi) + np.log(np.diag(factor)).sum()
        exponents = [torch.logsumexp(chunk * (-0.5 / h**2), 1) for chunk in distances.split(64)]
        return torch.cat(exponents).numpy() - constant

    def search(shape, distances, grid):
        scores = [log_kernel_mean(distances, shapes[shape], h).mean() for h in grid]
        return max(zip(scores, [shape] * len(grid), map(float, grid)))

    distances = {shape: squared_distances(table.x["validation"], factor) for shape, factor in shapes.items()}
    _, shape, h = max(search(shape, distances[shape], np.geomspace(0.02, 2, 13)) for shape in shapes)
    for ratio in (1.5, 1.15):
        _, shape, h = search(shape, distances[shape], h * np.geomspace(1 / ratio, ratio, 7))

    def log_prob(rows):
        chunks = np.array_split(rows, max(1, len(rows) // 500))
        return np.concatenate([log_kernel_mean(squared_distances(c, shapes[shape]), shapes[shape], h) for c in chunks])

    return log_prob(table.x["validation"]), log_prob, {"shape": shape, "bandwidth": round(h, 4)}


def mixture(table, options):
    train, validation = table.x["train"], table.x["validation"]
    deadline = options.now() + options.seconds
    ridges = (1e-6, 1e-4, 1e-3, 1e-2, 1e-1)
    best = (-math.inf, None, {})
    fits = 0

    def out_of_time():
        return options.now() >= deadline

    def fit(components, ridge, start):
        """Expectation-maximisation in bouts of five iterations, until validation gains no more or time is up."""
        nonlocal best, fits
        model = GaussianMixture(components, reg_covar=ridge, max_iter=5, tol=1e-4, warm_start=True, random_state=options.seed + start)
        own, idle, iterations = -math.inf, 0, 0
        while idle < 2 and iterations < 500 and not out_of_time():
            try:
                model.fit(train)
            except ValueError:  # a component collapsed: this ridge is too small
                break
            iterations += model.n_iter_
            score = model.score(validation)
            idle = 0 if score > own + 5e-3 else idle + 1
            own = max(own, score)
            if score > best[0]:
                choice = {"components": components, "ridge": ridge, "start": start, "em_iterations": iterations}
                best = (score, copy.deepcopy(model), choice)
            if model.converged_:
                break
        fits += 1
        return own

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        # Components doubled while that pays; the ridge follows, and may only rise once fits take long.
        at, falls, previous = 2, 0, -math.inf
        for components in options.components:
            tried = {i: fit(components, ridges[i], 0) for i in (at, at + 1, at - 1)[: 3 if components <= 8 else 2] if 0 <= i < len(ridges)}
            at = max(tried, key=tried.get)
            falls = falls + 1 if tried[at] < previous else 0
            previous = tried[at]
            note(f"  mixture: {components} components, validation {tried[at]:.3f}")
            if out_of_time() or falls == 2:
                break
        climbed = not out_of_time()
        # What time is left goes to the numbers between and to other starts.
        k, start = best[2].get("components", 1), 1
        while not out_of_time() and start <= 20:
            for components in sorted({max(1, k * 3 // 4), k, k * 3 // 2}):
                fit(components, best[2]["ridge"], start)
            start += 1
    if best[1] is None:
        fail(f"{table.name}: no mixture was fitted in {options.seconds} s: give more --seconds")
    return best[1].score_samples(validation), best[1].score_samples, {**best[2], "fits": fits, "list_exhausted": climbed}


def flow(table, options):
    torch.manual_seed(options.seed)
    rng = np.random.default_rng([options.seed, len(PARTS)])
    start = options.now()
    raw, d = table.raw["train"], len(table.columns)
    validation = torch.tensor(table.x["validation"], dtype=torch.float32)
    model = NSF(d, bins=options.bins, transforms=options.transforms, hidden_features=options.hidden)
    optimizer = torch.optim.Adam(model.parameters(), lr=options.learning_rate, fused=True)
    batch = min(options.batch_size, max(64, len(raw) // 8))
    between = max(len(raw) // batch, 10)  # steps from one validation to the next

    def log_prob(rows):
        with torch.no_grad():
            return torch.cat([model().log_prob(chunk) for chunk in rows.split(2048)])

    best, state, best_step, step, idle, drops, skipped = -math.inf, None, 0, 0, 0, 0, 0
    order = np.empty(0, dtype=int)
    while drops < 4:
        elapsed = (options.now() - start) / options.seconds
        if elapsed >= 1:
            break
        if len(order) < batch:
            order = rng.permutation(len(raw))
        rows, order = raw[order[:batch]], order[batch:]
        x = torch.from_numpy(table.scaled(table.dequantised(rows, rng))[0].astype(np.float32))
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate * min(1, (step + 1) / 100) * 0.3**drops * 0.5 * (1 + math.cos(math.pi * elapsed))
        loss = -model().log_prob(x).mean()
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        if torch.isfinite(norm):
            optimizer.step()
        else:
            skipped += 1
        step += 1
        if step % between == 0:
            score = log_prob(validation).mean().item()
            if score > best:
                best, state, best_step, idle = score, copy.deepcopy(model.state_dict()), step, 0
            else:
                idle += 1
            if idle >= options.patience:  # a plateau: back to the best, with smaller steps
                model.load_state_dict(state)
                idle, drops = 0, drops + 1
    if state is None:
        fail(f"{table.name}: no epoch of the flow ended in {options.seconds} s: give more --seconds")
    model.load_state_dict(state)
    model.double()  # likelihoods are summed in double precision
    choice = {
        "transforms": options.transforms,
        "bins": options.bins,
        "hidden": options.hidden,
        "parameters": sum(p.numel() for p in model.parameters()),
        "batch_size": batch,
        "learning_rate": options.learning_rate,
        "steps": step,
        "best_step": best_step,
        "stopped_early": drops == 4,
        "steps_skipped_not_finite": skipped,
    }
    final = lambda rows: log_prob(torch.from_numpy(rows)).numpy()
    return final(table.x["validation"]), final, choice


METHODS = {"gaussian": gaussian, "kde": kde, "mixture": mixture, "flow": flow}


def measure(method, table, options):
    start = options.now()
    validation, log_prob, choice = METHODS[method](table, options)
    seconds = options.now() - start
    test = log_prob(table.x["test"])
    own_units = test + table.log_derivative["test"]
    if options.rows:
        options.rows.mkdir(parents=True, exist_ok=True)
        np.save(options.rows / f"{table.name}-{method}-{options.seed}.npy", own_units)
    return {
        "table": table.name,
        "method": method,
        "test_nats": round(own_units.mean(), 4),
        "test_nats_standardised": round(test.mean(), 4),
        "test_std_error": round(own_units.std(ddof=1) / math.sqrt(len(test)), 4),
        "test_worst_row_standardised": round(test.min(), 2),
        "test_rows_not_finite": int((~np.isfinite(test)).sum()),
        "validation_nats_standardised": round(validation.mean(), 4),
        "seconds": round(seconds, 1),
        "budget_seconds": options.seconds if method in ("mixture", "flow") else None,
        "clock": options.clock,
        "threads": options.threads,
        "seed": options.seed,
        "columns": len(table.columns),
        "rows": {part: len(table.raw[part]) for part in PARTS},
        "dequantised": {c: s for c, s in zip(table.columns, table.steps) if s},
        "gaussianised": [c for c, m in zip(table.columns, table.maps) if isinstance(m, Spline)],
        "log_sd_sum": round(-table.log_derivative["test"].mean(), 4),
        "choice": choice,
    }


def main():
    integers = lambda text: [int(n) for n in text.split(",")]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("splits", nargs="+", type=pathlib.Path, metavar="SPLIT")
    parser.add_argument("--methods", default=",".join(METHODS), help="of gaussian,kde,mixture,flow (default: all)")
    parser.add_argument("--seconds", type=float, default=60, help="wall clock for each of mixture and flow (default 60)")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="what --seconds are of; cpu where others use the machine")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="of the dequantisation and of every method (default 0)")
    parser.add_argument("--dequantize", default="auto", metavar="auto|integers|none|NAMES", help="default auto: integers and coarse decimals")
    parser.add_argument("--scaling", type=pathlib.Path, metavar="RUN", help="grids and maps of this run of tweedie (one SPLIT)")
    parser.add_argument("--rows", type=pathlib.Path, metavar="FOLDER", help="write the test rows' log-likelihoods there, nats, NPY")
    parser.add_argument("--components", type=integers, default=[2**i for i in range(9)], help="mixture (default 1,2,4,…,256)")
    parser.add_argument("--transforms", type=int, default=5, help="flow")
    parser.add_argument("--bins", type=int, default=8, help="flow")
    parser.add_argument("--hidden", type=integers, default=[128, 128], help="flow: widths (default 128,128)")
    parser.add_argument("--batch-size", type=int, default=512, help="flow: at most; an eighth of the rows if that is less")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="flow")
    parser.add_argument("--patience", type=int, default=20, help="flow: validations without gain before the rate falls")
    options = parser.parse_args()

    if options.scaling and len(options.splits) != 1:
        fail("--scaling: a run is of one SPLIT: give them one by one")
    options.now = time.process_time if options.clock == "cpu" else time.monotonic
    methods = options.methods.split(",")
    for method in methods:
        if method not in METHODS:
            fail(f"--methods: {method} is not one of {', '.join(METHODS)}")
    torch.set_num_threads(options.threads)
    with threadpool_limits(options.threads):
        for folder in options.splits:
            table = Table(folder, options.dequantize, options.seed, options.scaling)
            for method in methods:
                note(f"{table.name}: {method}")
                print(json.dumps(measure(method, table, options), ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
