#!/usr/bin/env python3
"""A run of tweedie on a mixed table beside its base and a spline flow of the numbers; one JSON line per file.

    tweedie train --data SPLIT/train.csv --validation SPLIT/validation.csv --out RUN --max-seconds 165 \
        --threads 1
    tweedie score RUN SPLIT/test.csv --parts --parts-of base --unseen impossible --threads 1 -o SCORED.csv
    python benches/peers/mixed.py SPLIT RUN SCORED.csv --seconds 165 --threads 1

A row is p(c) p(x | c). The run's schema says what c and x are, and its grids and maps what the numbers are in
the flow's units; log-derivatives are counted. A value that repeats too often for a density (an atom) is a
category of its column, whose number is then absent. Compared are, row by row, on the rows of SCORED.csv:

  nats            all of the row: `log_likelihood` of SCORED.csv, and the run's base, exactly
  nats_numbers    ln p(x | c): `log_likelihood_numbers`, the base's, and that of zuko's neural spline flow
                  with c as one-hot context; of rows without missing cells alone, as the flow has no
                  p(x | part of c)

Both are pairs of the mean and its standard error over rows, and so are the differences, of the same rows.

The flow has a coordinate for every number. Where one is absent, its coordinate is z ~ N(0, 1), fresh in each
batch, and the context says so. It is integrated out by importance: ln mean_z q(x, z | c) / N(z) over --fills
draws, a lower bound in the mean. Beside it stand those by one draw and by a quarter of them: where they
agree, nothing is lost. Missing cells of training rows are absent numbers, and categories without a 1.

The flow is trained like that of baselines.py: Adam, the step size falling by cosine over --seconds of wall
clock and by 0.3 at a plateau, the best step on the validation rows kept. Base and flow are means over
--noises draws of the noise within bins.
"""

import argparse
import copy
import csv
import json
import math
import pathlib
import sys
import time

import numpy as np
import torch
from baselines import Affine, Spline
from scipy.linalg import solve_triangular
from scipy.special import logsumexp
from zuko.flows import NSF

MARKS = {"", "-", "na", "n/a", "#n/a", "nan", "null", "none", "?"}
LN_2PI = math.log(2 * math.pi)


def fail(message):
    sys.exit(f"mixed: {message}")


class Rows:
    """Numbers, NaN where absent, and codes of categories, -1 where missing, as a run of tweedie has them."""

    def __init__(self, path, schema):
        with open(path, newline="") as file:
            header, *rows = list(csv.reader(file))
        self.cells = {name: [cell.strip() for cell in cells] for name, cells in zip(header, zip(*rows))}
        numbers, codes, self.sizes, self.atom_rows = [], [], [], []
        self.whole, self.seen = np.ones(len(rows), bool), np.ones(len(rows), bool)
        for column in schema:
            if column["kind"] in ("constant", "left-out"):
                continue
            if column["kind"] == "time" or column.keys() & {"difference", "bounds", "indicated"}:
                fail(f"{column['name']}: dates, bounds, orders and indicators are not measured here")
            cells = self.cells[column["name"]]
            missing = np.array([cell.lower() in MARKS for cell in cells])
            self.whole &= ~missing
            if column["kind"] == "category":
                places = {name: code for code, name in enumerate(column["names"])}
                code = np.array([-1 if none else places.get(cell, -2) for cell, none in zip(cells, missing)])
                self.seen &= code != -2
                self.sizes.append(len(places))
                codes.append(code)
                continue
            value = np.array([math.nan if none else float(cell) for cell, none in zip(cells, missing)])
            if atoms := column["atoms"]:
                at = np.array([value == atom for atom in atoms])
                code = np.where(missing, -1, np.where(at.any(0), at.argmax(0), len(atoms)))
                self.sizes.append(len(atoms) + 1)
                self.atom_rows.append(at.sum(1).tolist())
                codes.append(code)
                value = np.where(at.any(0), math.nan, value)
            numbers.append(value - column["shift"])
        self.numbers, self.codes = np.stack(numbers, 1), np.stack(codes, 1)

    def one_hot(self):
        return np.concatenate([np.eye(n)[k] * (k >= 0)[:, None] for k, n in zip(self.codes.T, self.sizes)], 1)

    def scored(self, name):
        return np.array([float(cell) if cell else math.nan for cell in self.cells[name]])


class Scaling:
    """The run's grids and maps."""

    def __init__(self, columns):
        self.steps = np.array([column["grid"]["bin"] if column["grid"] else 0.0 for column in columns])
        self.maps = []
        for column in columns:
            ((kind, of),) = column["map"].items()
            self.maps.append(Affine(of["shift"], of["scale"]) if kind == "affine" else Spline(**of))

    def __call__(self, numbers, rng):
        """Dequantised rows in the units of the maps, NaN where absent, and their log-derivatives."""
        noisy = numbers + self.steps * (rng.random(numbers.shape) - 0.5)
        parts = [of_column(np.nan_to_num(noisy[:, k])) for k, of_column in enumerate(self.maps)]
        absent = np.isnan(numbers)
        x = np.where(absent, math.nan, np.stack([x for x, _ in parts], 1))
        return x, np.where(absent, 0, np.stack([slope for _, slope in parts], 1)).sum(1)


def base(parameters, x, one_hot):
    """ln p(x, c) and ln p(c) of the base, Σ π_k N(x; m_k, S_k) Π p_k(c_j), absent numbers integrated out."""
    of_codes = np.log(parameters["weights"]) + one_hot @ np.log(parameters["pmfs"]).T
    joint = of_codes.copy()
    patterns, which = np.unique(~np.isnan(x), axis=0, return_inverse=True)
    for k, (mean, covariance) in enumerate(zip(parameters["means"], parameters["covariances"])):
        mean, covariance = np.array(mean), np.array(covariance).reshape(x.shape[1], -1)
        for i, there in enumerate(patterns):
            if not there.any():
                continue
            own = which.ravel() == i
            factor = np.linalg.cholesky(covariance[np.ix_(there, there)])
            z = solve_triangular(factor, (x[own][:, there] - mean[there]).T, lower=True)
            joint[own, k] += -0.5 * (z**2).sum(0) - np.log(np.diag(factor)).sum() - 0.5 * there.sum() * LN_2PI
    return logsumexp(joint, 1), logsumexp(of_codes, 1)


def filled(x, rng):
    """Rows with z ~ N(0, 1) for absent numbers, and ln N(z)."""
    absent = np.isnan(x)
    z = rng.standard_normal(x.shape)
    return np.where(absent, z, x), (np.where(absent, -0.5 * z**2, 0)).sum(1) - 0.5 * LN_2PI * absent.sum(1)


class Flow:
    def __init__(self, train, validation, scaling, options):
        torch.manual_seed(options.seed)
        rng = np.random.default_rng([options.seed, 0])
        start = time.monotonic()
        # codes of atoms say where a number is absent; where another is missing has to be said, too
        without_atoms = np.array([not column["atoms"] for column in options.numbers])
        self.holes = np.isnan(train.numbers).any(0) & without_atoms

        def tensor(rows):
            return torch.from_numpy(rows.astype(np.float32))

        context, n, d = tensor(self.context(train)), *train.numbers.shape
        held_out = filled(scaling(validation.numbers, np.random.default_rng(options.seed))[0], rng)[0]
        held_out = tensor(held_out), tensor(self.context(validation))
        shape = {"bins": options.bins, "transforms": options.transforms, "hidden_features": options.hidden}
        self.model = NSF(d, context.shape[1], **shape)
        optimizer = torch.optim.Adam(self.model.parameters(), lr=options.learning_rate, fused=True)
        batch = min(options.batch_size, max(64, n // 8))
        between = max(n // batch, 10)  # steps from one validation to the next
        best, state, best_step, step, idle, drops, order = -math.inf, None, 0, 0, 0, 0, np.empty(0, dtype=int)
        while drops < 4 and (elapsed := (time.monotonic() - start) / options.seconds) < 1:
            if len(order) < batch:
                order = rng.permutation(n)
            rows, order = order[:batch], order[batch:]
            x = tensor(filled(scaling(train.numbers[rows], rng)[0], rng)[0])
            rate = options.learning_rate * min(1, (step + 1) / 100) * 0.3**drops
            for group in optimizer.param_groups:
                group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * elapsed))
            loss = -self.model(context[rows]).log_prob(x).mean()
            optimizer.zero_grad()
            loss.backward()
            if torch.isfinite(torch.nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)):
                optimizer.step()
            step += 1
            if step % between == 0:
                score = self.log_prob(*held_out).mean()
                if score > best:
                    best, state, best_step, idle = score, copy.deepcopy(self.model.state_dict()), step, 0
                else:
                    idle += 1
                if idle >= options.patience:  # a plateau: back to the best, with smaller steps
                    self.model.load_state_dict(state)
                    idle, drops = 0, drops + 1
        if state is None:
            fail(f"no epoch of the flow ended in {options.seconds} s: give more --seconds")
        self.model.load_state_dict(state)
        self.model.double()  # likelihoods are summed in double precision
        self.about = {
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "batch_size": batch,
            "steps": step,
            "best_step": best_step,
            "stopped_early": drops == 4,
            "seconds": round(time.monotonic() - start, 1),
        }

    def context(self, rows):
        return np.concatenate([rows.one_hot(), np.isnan(rows.numbers[:, self.holes])], 1)

    def log_prob(self, x, context):
        with torch.no_grad():
            chunks = zip(x.split(2048), context.split(2048))
            return torch.cat([self.model(c).log_prob(x) for x, c in chunks]).double().numpy()

    def score(self, rows, scaling, rng, options):
        """ln p(x | c) of rows in the data's own units: by one fill, by a quarter of them, and by all."""
        context, found = torch.from_numpy(self.context(rows)), []
        for _ in range(options.noises):
            x, log_slopes = scaling(rows.numbers, rng)
            fills = [filled(x, rng) for _ in range(options.fills if np.isnan(x).any() else 1)]
            ratios = np.stack([self.log_prob(torch.from_numpy(full), context) - of_z for full, of_z in fills])
            sizes = 1, max(1, len(fills) // 4), len(fills)
            parts = [np.split(ratios, range(n, len(fills), n)) for n in sizes]
            means = [np.mean([logsumexp(p, 0) - math.log(len(p)) for p in of], 0) for of in parts]
            found.append(np.stack(means) + log_slopes)
        return np.mean(found, 0)


def mean_error(values):
    return [round(values.mean(), 4), round(values.std(ddof=1) / math.sqrt(len(values)), 4)]


def main():
    integers = lambda text: [int(n) for n in text.split(",")]
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("split", type=pathlib.Path, metavar="SPLIT", help="has train.csv and validation.csv")
    parser.add_argument("run", type=pathlib.Path, metavar="RUN")
    parser.add_argument("scored", nargs="+", type=pathlib.Path, metavar="SCORED.csv")
    parser.add_argument("--seconds", type=float, default=60, help="wall clock of the flow; 0: no flow")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="of the noise and the flow (default 0)")
    parser.add_argument("--rows", type=pathlib.Path, metavar="FOLDER", help="write rows' likelihoods there")
    parser.add_argument("--noises", type=int, default=2, help="draws of the noise within bins (default 2)")
    parser.add_argument("--fills", type=int, default=32, help="draws of absent numbers (default 32)")
    parser.add_argument("--transforms", type=int, default=3)
    parser.add_argument("--bins", type=int, default=8)
    parser.add_argument("--hidden", type=integers, default=[256, 256], help="widths (default 256,256)")
    parser.add_argument("--batch-size", type=int, default=512, help="at most; or an eighth of the rows")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--patience", type=int, default=20, help="validations before the rate falls")
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    data = json.loads((options.run / "data.json").read_text())
    schema, scaling = data["columns"]["columns"], Scaling(data["scaling"]["columns"])
    options.numbers = [column for column in schema if column["kind"] == "number"]
    parameters = json.loads((options.run / "base.json").read_text())
    train, validation = (Rows(options.split / f"{part}.csv", schema) for part in ("train", "validation"))
    if train.atom_rows != [column["atom_rows"] for column in options.numbers if column["atoms"]]:
        fail(f"{options.split} is not what {options.run} was trained on")
    if options.seconds > 0:
        flow = Flow(train, validation, scaling, options)

    for path in options.scored:
        rows, rng = Rows(path, schema), np.random.default_rng([options.seed, 1])
        ours, numbers = rows.scored("log_likelihood"), rows.scored("log_likelihood_numbers")
        of_base = []
        for _ in range(options.noises):
            x, log_slopes = scaling(rows.numbers, rng)
            joint, of_codes = base(parameters, x, rows.one_hot())
            of_base.append([joint + log_slopes, joint - of_codes + log_slopes])
        of_base, of_base_numbers = np.mean(of_base, 0)
        finite = np.isfinite(ours) & rows.seen
        both = finite & rows.whole
        result = {
            "table": options.split.name,
            "scored": path.name,
            "seed": options.seed,
            "numbers": len(options.numbers),
            "categories": sum(column["kind"] == "category" for column in schema),
            "columns_with_atoms": sum(bool(column["atoms"]) for column in options.numbers),
            "train_rows": len(train.codes),
            "rows": {"scored": len(ours), "finite": int(finite.sum()), "whole": int(both.sum())},
            "nats": {"tweedie": mean_error(ours[finite]), "base": mean_error(of_base[finite])},
            "nats_minus_base": mean_error((ours - of_base)[finite]),
            "nats_numbers": {"tweedie": mean_error(numbers[both]), "base": mean_error(of_base_numbers[both])},
        }
        of_rows = {"finite": finite, "whole": both, "nats": ours, "base": of_base}
        of_rows |= {"numbers": numbers, "base_numbers": of_base_numbers}
        if options.seconds > 0:
            by_fills = flow.score(rows, scaling, rng, options)
            of_flow = by_fills[-1]
            result["nats_numbers"]["flow"] = mean_error(of_flow[both])
            result["flow_by_one_quarter_all_fills"] = by_fills[:, both].mean(1).round(4).tolist()
            result["nats_numbers_minus_flow"] = mean_error((numbers - of_flow)[both])
            result["flow"] = flow.about
            of_rows["flow_numbers"] = of_flow
        if options.rows:
            options.rows.mkdir(parents=True, exist_ok=True)
            with open(options.rows / f"{path.stem}.csv", "w", newline="") as file:
                csv.writer(file).writerows([list(of_rows), *zip(*of_rows.values())])
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
