# %% [markdown]
# Images: load a run, sample, and score. The run is the small model of Fashion-MNIST in the repository.

# %%
from pathlib import Path

from tweedie import Run

run = Run.load(Path(__file__).resolve().parents[2] / "models" / "fashion-mnist")
print(run, run.image)

# %% Sixteen images in twenty steps, bytes `[n, H, W]`.
images = run.sample(16, steps=20, seed=0)
print(images.shape, images.dtype, images.mean().round(1))

# %% The log-probability of their levels, a lower bound, as bits per dimension.
nats = run.score_samples(images[:4], estimator="levels", steps=20, draws=1)
print("bits per dimension:", (-nats / images[0].size / 0.6931).round(2))
