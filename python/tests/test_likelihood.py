"""Log-likelihoods of a user's own model: exact where the answer is known, and the engine's own."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import whole_torch

if not whole_torch():
    pytest.skip("the whole of torch is not installed", allow_module_level=True)

import torch  # noqa: E402

import tweedie  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))
from own_model import SCHEDULE, Noise, exact, x  # noqa: E402


class OfClean(torch.nn.Module):
    """The same model, predicting x₀ or v."""

    def __init__(self, prediction):
        super().__init__()
        self.inner, self.prediction = Noise(), prediction

    def forward(self, rows, t):
        log_alpha = -0.25 * t**2 * 49.9 - 0.5 * t * 0.1
        alpha, sigma = log_alpha.exp()[:, None], (-torch.expm1(2 * log_alpha)).sqrt()[:, None]
        noise = self.inner(rows, t)
        clean = (rows - sigma * noise) / alpha
        return clean if self.prediction == "sample" else alpha * noise - sigma * clean


@pytest.mark.parametrize("prediction", ["epsilon", "v", "sample"])
def test_the_flow_is_exact(prediction):
    model = Noise() if prediction == "epsilon" else OfClean(prediction)
    found = tweedie.likelihood(model, x, schedule=SCHEDULE, prediction=prediction)
    assert found.kind == "estimate" and found.values.shape == (len(x),)
    np.testing.assert_allclose(found.values, exact(x).numpy(), atol=1e-4)


def test_single_precision_is_near():
    found = tweedie.likelihood(Noise(), x.float(), schedule=SCHEDULE)
    np.testing.assert_allclose(found.values, exact(x).numpy(), atol=1e-3)


def test_the_elbo_is_a_bound():
    truth = exact(x).mean().item()
    few, many = (
        tweedie.likelihood(Noise(), x, schedule=SCHEDULE, estimator="elbo", steps=k) for k in (10, 200)
    )
    assert few.kind == many.kind == "lower bound"
    assert few.mean < many.mean < truth
    assert truth - many.mean < 0.3
    jacobian = tweedie.likelihood(
        Noise(), x, schedule=SCHEDULE, estimator="elbo", steps=10, covariance="full"
    )
    assert jacobian.mean > few.mean + 0.05
    assert many.evaluations == 800


def test_probes_have_an_error():
    found = tweedie.likelihood(Noise(), x, schedule=SCHEDULE, divergence="rademacher", probes=4)
    apart = (found.values - exact(x).numpy()) / found.std_errors
    assert 0.3 < np.mean(np.abs(apart) < 1) < 0.95 and np.abs(found.values - exact(x).numpy()).mean() < 0.5


def test_rows_of_any_shape_and_training_mode():
    class Images(torch.nn.Module):
        def forward(self, rows, t):
            assert rows.shape[1:] == (1, 1, 2) and not self.training
            return Noise()(rows.reshape(-1, 2), t).reshape(rows.shape)

    model = Images().train()
    found = tweedie.likelihood(model, x.reshape(-1, 1, 1, 2), schedule=SCHEDULE)
    assert model.training
    np.testing.assert_allclose(found.values, exact(x).numpy(), atol=1e-4)


@pytest.mark.parametrize("how", ["no_grad", "detach", "constant"])
def test_what_cannot_be_differentiated_is_said(how):
    def bad(rows, t):
        if how == "constant":
            return torch.zeros_like(rows)
        with torch.no_grad() if how == "no_grad" else torch.enable_grad():
            return Noise()(rows, t).detach()

    with pytest.raises(ValueError, match="cannot be differentiated"):
        tweedie.likelihood(bad, x[:5])
    assert np.isfinite(tweedie.likelihood(bad, x[:5], estimator="elbo", steps=5).values).all()


def test_bits_are_of_levels_or_of_densities():
    levels = torch.randint(0, 256, (5, 1, 2, 2), dtype=torch.uint8)
    model = lambda rows, t: rows  # noqa: E731
    found = tweedie.likelihood(model, levels, schedule="ddpm", estimator="levels", steps=10)
    assert abs(found.bits_per_dim() + found.mean / 4 / np.log(2)) < 1e-12
    density = tweedie.likelihood(model, levels / 127.5 - 1, schedule="ddpm", estimator="elbo", steps=10)
    expected = -(density.mean / 4 + np.log(2 / 255)) / np.log(2)
    assert abs(density.bits_per_dim() - expected) < 1e-12


def test_steps_of_a_chain_are_whole():
    asked = []

    def model(rows, t):
        asked.extend(t.tolist())
        return rows

    tweedie.likelihood(
        model, x[:2].float(), schedule="ddpm", estimator="elbo", steps=50, spacing="even", draws=1
    )
    assert all(step == round(step) for step in asked) and len(set(asked)) == 50


def test_modules_keep_their_modes():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout()).train()
    model[1].eval()
    tweedie.likelihood(lambda rows, t: model(rows.float()).to(rows), x[:2], estimator="elbo", steps=2)
    own = torch.nn.Sequential(model)
    own.forward = lambda rows, t: rows
    tweedie.likelihood(own, x[:2], estimator="elbo", steps=2)
    assert model.training and model[0].training and not model[1].training


def test_the_users_generator_is_left_alone():
    from conftest import FEW, numbers

    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    tweedie.TweedieDensity(**FEW).fit(numbers())
    assert torch.equal(torch.rand(3), expected)


def test_what_the_model_raises_is_raised():
    class Own(Exception):
        pass

    def bad(rows, t):
        raise Own("on purpose")

    with pytest.raises(Own, match="on purpose"):
        tweedie.likelihood(bad, x)
    with pytest.raises(ValueError, match="returned"):
        tweedie.likelihood(lambda rows, t: rows[:, :1], x)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"schedule": "no"}, "give one of vp"),
        ({"prediction": "score"}, "prediction"),
        ({"prediction": "v", "schedule": "ve"}, "variance-preserving"),
        ({"estimator": "elbo", "covariance": "learned"}, "takes more than a model"),
        ({"steps": 0, "estimator": "elbo"}, "steps"),
        ({"no_option": 1}, "no_option"),
        ({"times": "hours"}, "times"),
    ],
)
def test_what_cannot_be_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        tweedie.likelihood(Noise(), x, **options)


def test_rows_that_cannot_be_are_refused():
    for bad in (torch.zeros(3), torch.zeros(0, 2), torch.zeros(3, 2, dtype=torch.int64), x * float("nan")):
        with pytest.raises(ValueError):
            tweedie.likelihood(Noise(), bad)


def test_one_libtorch_serves_both():
    maps = {line.split()[-1] for line in open("/proc/self/maps") if "libtorch_cpu" in line}
    assert len(maps) == 1, maps
    assert os.path.dirname(torch.__file__) in maps.pop()


def test_a_u_net_of_diffusers_is_what_its_import_is(tmp_path):
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    unet = diffusers.UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=8,
    )
    scheduler = diffusers.DDPMScheduler(num_train_timesteps=1000)
    pipeline = diffusers.DDPMPipeline(unet=unet, scheduler=scheduler)
    run = tweedie.import_diffusers(pipeline)
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8), dtype=np.uint8)
    options = dict(estimator="levels", steps=10, draws=1, covariance="beta", seed=0)
    own = run.score_samples(images, **options)
    levels = torch.from_numpy(images)[:, None]
    found = tweedie.likelihood(unet, levels, schedule=scheduler, **options)
    np.testing.assert_allclose(found.values, own, rtol=1e-4)
