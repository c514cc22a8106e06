#!/usr/bin/env python3
"""Writes the reference of crates/tweedie/src/metric/quality/tests.rs, tests/reference/quality/expected.json.

    python3 -m venv peers && peers/bin/pip install sdmetrics==0.32.0 pandas==2.3.3 numpy==2.4.6 scipy==1.17.1 \
        scikit-learn==1.9.1 xgboost==3.2.0
    peers/bin/python tests/reference/quality.py

The tables are made by the rules of `mixed` and `signs` below, here and in the test. Row i of either side of a two-sample test
is in fold i mod 3. What the file has:

    shape, trend    SDMetrics' ColumnShapes and ColumnPairTrends on `mixed`, where the synthetic rows have a category more
    detection       the AUC of each fold by SDMetrics' LogisticDetection, and by xgboost's classifier in place of its own
    utility         xgboost trained on real and on synthetic rows, judged on other real rows by scikit-learn
    support         the formulas of Alaa et al. 2022 as synthcity's naive variant has them, in NumPy
    closest         distances to the closest record, in NumPy
"""

import json
import pathlib

import numpy as np
import pandas as pd
from sdmetrics.reports.single_table._properties import ColumnPairTrends, ColumnShapes
from sdmetrics.single_table import LogisticDetection
from sdmetrics.utils import HyperTransformer
from sequence import number
from sklearn.metrics import f1_score, r2_score, roc_auc_score
from xgboost import XGBClassifier, XGBRegressor

HERE = pathlib.Path(__file__).parent / "quality"
FOLDS = 3


def mixed(name, n, shift):
    """Four numbers, of which one has holes and one repeats its values, three categories, of which one has holes, and two
    targets; a category more where `shift` is above a half."""
    u, v, w, x, y, z, q, h, k = (number(f"{name}/{column}", n) for column in "uvwxyzqhk")
    colour = np.where(u + 0.5 * y < -0.3, "red", np.where(u + 0.5 * y < 0.4, "green", "blue"))
    form = np.where(z + shift < -0.5, "disc", np.where(z + shift < 0, "ring", np.where(z + shift < 0.9, "cube", "cone")))
    if shift > 0.5:
        form = np.where(x > 0.95, "knot", form)
    income = (0.6 - shift) * u + 0.8 * v
    amount = u * u + v - 0.5 * u * w + 0.1 * q + np.where(colour == "red", 0.5, 0.0)
    label = np.where(u * v + 0.3 * w * z + 0.2 * q > 0.05, "yes", "no")
    return pd.DataFrame({
        "age": u,
        "income": np.where(h < -0.8, np.nan, income),
        "gain": w * w * w * (1 + shift),
        "count": np.floor(5 * (x + 1) * (1 - 0.2 * shift)),
        "amount": amount,
        "colour": pd.Series(np.where(k < shift - 0.9, None, colour), dtype=object),
        "form": pd.Series(form, dtype=object),
        "label": pd.Series(label, dtype=object),
    })


def signs(name, n, coupled):
    """Numbers of which the fourth has the sign of the product of the first two, or not: no linear rule tells these apart."""
    u, v, w, x = (number(f"{name}/{column}", n) for column in "uvwx")
    product = u * v if coupled else x * v
    return pd.DataFrame({"u": u, "v": v, "w": w + 0.1 * u, "x": np.where(product > 0, 0.5, -0.5) + 0.5 * x})


def metadata(table):
    kinds = {column: "categorical" if table[column].dtype == object else "numerical" for column in table}
    return {"columns": {column: {"sdtype": kind} for column, kind in kinds.items()}}


def fidelity(real, synthetic):
    shapes, trends = ColumnShapes(), ColumnPairTrends()
    shape = shapes.get_score(real, synthetic, metadata(real))
    trend = trends.get_score(real, synthetic, metadata(real))
    return {
        "shape": {"mean": shape, "columns": dict(zip(shapes.details["Column"], shapes.details["Score"]))},
        "trend": {
            "mean": trend,
            "pairs": [list(pair) for pair in zip(*(trends.details[c] for c in ("Column 1", "Column 2", "Score")))],
        },
    }


def detection(real, synthetic):
    transformer = HyperTransformer()
    rows = np.concatenate([transformer.fit_transform(real.copy()), transformer.transform(synthetic.copy())]).astype(float)
    labels = np.hstack([np.ones(len(real)), np.zeros(len(synthetic))])
    fold = np.hstack([np.arange(len(real)), np.arange(len(synthetic))]) % FOLDS
    found = {"logistic": [], "trees": []}
    for test in range(FOLDS):
        inside, outside = fold != test, fold == test
        by_logistic = LogisticDetection._fit_predict(rows[inside], labels[inside], rows[outside])
        found["logistic"].append(roc_auc_score(labels[outside], by_logistic))
        trees = XGBClassifier().fit(rows[inside], labels[inside])
        found["trees"].append(roc_auc_score(labels[outside], trees.predict_proba(rows[outside])[:, 1]))
    for name in list(found):
        found[f"{name} score"] = 1 - np.mean([max(0.5, auc) * 2 - 1 for auc in found[name]])
    return found


def utility(train, test, target):
    together = pd.concat([train, test]).drop(columns=target)
    rows = pd.get_dummies(together, dummy_na=True).astype(float).to_numpy()
    inside, outside = rows[: len(train)], rows[len(train) :]
    if train[target].dtype != object:
        model = XGBRegressor().fit(inside, train[target])
        predicted = model.predict(outside)
        squares = np.mean((predicted - test[target]) ** 2)
        return {"rmse": np.sqrt(squares), "r2": r2_score(test[target], predicted)}
    seen = [~table[target].isna().to_numpy() for table in (train, test)]
    classes = sorted(set(train[target][seen[0]]))
    codes = [table[target][kept].map(classes.index).to_numpy() for table, kept in zip((train, test), seen)]
    model = XGBClassifier().fit(inside[seen[0]], codes[0])
    chances = model.predict_proba(outside[seen[1]])
    scores = chances[:, 1] if len(classes) == 2 else chances
    return {
        "auroc": roc_auc_score(codes[1], scores, multi_class="ovr"),
        "f1": f1_score(codes[1], chances.argmax(1), average="macro"),
    }


def embedded(tables):
    """Numbers between the least and the greatest of the first table, holes as its mean; categories, and whether a number is
    a hole, as one-hot coordinates."""
    first, parts = tables[0], []
    for column in first:
        cells = pd.concat([table[column] for table in tables], ignore_index=True)
        if first[column].dtype == object:
            parts.append(pd.get_dummies(cells, dummy_na=True).to_numpy(float))
            continue
        span = first[column].max() - first[column].min()
        filled = cells.fillna(first[column].mean()).to_numpy()
        parts.append(((filled - first[column].min()) / span)[:, None])
        if cells.isna().any():
            parts.append(np.stack([cells.isna(), ~cells.isna()], 1).astype(float))
    return np.split(np.concatenate(parts, 1), np.cumsum([len(table) for table in tables])[:-1])


def support(real, synthetic):
    x, y = embedded([real, synthetic])
    norm = lambda difference: np.sqrt((difference**2).sum(-1))
    levels = np.linspace(0, 1, 30)
    centre, synthetic_centre = x.mean(0), y.mean(0)
    radii = np.quantile(norm(x - centre), levels)
    precision = [(norm(y - centre) <= radius).mean() for radius in radii]
    to_synthetic = norm(x[:, None] - y)
    among_real = norm(x[:, None] - x)
    np.fill_diagonal(among_real, np.inf)
    closest = to_synthetic.argmin(1)
    covered = to_synthetic.min(1) <= among_real.min(1)
    spread = norm(y[closest] - synthetic_centre)
    recall = [(covered & (spread <= radius)).mean() for radius in np.quantile(spread, levels)]
    area = lambda curve: 1 - np.abs(levels - np.array(curve)).sum() / levels.sum()
    return {
        "precision curve": precision,
        "recall curve": recall,
        "precision": area(precision),
        "recall": area(recall),
    }


def closest(train, holdout, synthetic):
    x, other, y = embedded([train, holdout, synthetic])
    to = lambda rows: np.abs(y[:, None] - rows).sum(-1).min(1)
    to_train, to_holdout = to(x), to(other)
    # equal but for the rounding of sums
    equal = np.abs(to_train - to_holdout) < 1e-12
    nearer = (to_train < to_holdout) & ~equal
    return {"share": nearer.mean() + 0.5 * equal.mean(), "ties": int(equal.sum())}


def main():
    real, holdout = mixed("real", 1200, 0.0), mixed("holdout", 1200, 0.0)
    near, far = mixed("near", 1200, 0.1), mixed("far", 900, 0.6)
    copied = pd.concat([real[:150], near[150:600], holdout[:50]], ignore_index=True)
    expected = {
        **fidelity(real, far),
        "detection": {
            "mixed": detection(mixed("real", 10000, 0.0), mixed("near", 10000, 0.1)),
            "signs": detection(signs("real", 10000, True), signs("synthetic", 10000, False)),
        },
        "utility": {
            target: {"real": utility(real, holdout, target), "synthetic": utility(near, holdout, target)}
            for target in ("label", "colour", "amount")
        },
        "support": support(real[:600], near[:600]),
        "closest": closest(real[:600], holdout[:600], copied),
    }
    HERE.mkdir(exist_ok=True)
    (HERE / "expected.json").write_text(json.dumps(expected, indent=1, default=float) + "\n")


if __name__ == "__main__":
    main()
