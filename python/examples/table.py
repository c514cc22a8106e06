# %% [markdown]
# A table: train, score, sample, fill holes, find outliers. Runs as a script, or cell by cell.

# %%
import numpy as np
from sklearn.datasets import load_wine

from tweedie import TweedieDensity

frame = load_wine(as_frame=True).frame
frame["target"] = frame["target"].map({0: "Barolo", 1: "Grignolino", 2: "Barbera"}).astype("category")
rng = np.random.default_rng(0)
test = rng.random(len(frame)) < 0.2
train, new = frame[~test], frame[test].reset_index(drop=True)

# %% Ten seconds of training; what each column was found to be is in `columns`.
model = TweedieDensity(seconds=10, random_state=0).fit(train)
print(*model.run_.columns, sep="\n")

# %% Log-likelihoods in nats per row: a lower bound by default, the probability flow on request.
bounds, errors = model.score_samples(new, return_std=True)
flow = model.score_samples(new, estimator="ode")
print(f"ELBO {bounds.mean():.2f} ± {errors.mean():.2f}, flow {flow.mean():.2f} nats per row")

# %% Samples come back as the frame was: categories, decimals and all.
print(model.sample(5))

# %% The others given some columns.
barolo = model.given(target="Barolo").sample(200)
print("mean alcohol of Barolo:", round(barolo["alcohol"].mean(), 2), "in the data:",
      round(train.loc[train["target"] == "Barolo", "alcohol"].mean(), 2))  # fmt: skip

# %% Holes are filled in by draws, or by medians with intervals.
holes = new.copy()
holes.loc[::3, "alcohol"] = np.nan
filled = model.impute(holes, fill="median", interval=0.9)
print(filled.loc[::3, ["alcohol", "alcohol_low", "alcohol_high"]].head())

# %% Outliers by p-values against rows that were held out.
strange = new.assign(alcohol=new["alcohol"] + 5)
print("called outliers:", (model.predict(new) == -1).mean(), "of new rows,",
      (model.predict(strange) == -1).mean(), "of those with 5 % more alcohol")  # fmt: skip
