# %% [markdown]
# What is the log-likelihood under my own diffusion model of torch? Here the model is the exact noise of
# a mixture of two Gaussians, so that the answer is known.

# %%
import math

import torch

import tweedie

MEANS = torch.tensor([[-2.0, 0.0], [1.5, 1.0]])
SD = 0.6
#: VP, β from 0.1 to 50: nothing is left of the rows at t = 1, where a model's distribution is N(0, I).
SCHEDULE = {"kind": "vp", "beta_min": 0.1, "beta_max": 50.0}


class Noise(torch.nn.Module):
    """E[ε | x_t] of the mixture."""

    def forward(self, x, t):
        log_alpha = -0.25 * t**2 * 49.9 - 0.5 * t * 0.1
        alpha, sigma2 = log_alpha.exp()[:, None], -torch.expm1(2 * log_alpha)[:, None]
        means = MEANS.to(x) * alpha[:, :, None]
        variance = (alpha**2 * SD**2 + sigma2)[:, :, None]
        apart = x[:, None] - means
        weights = torch.softmax(-0.5 * (apart**2 / variance).sum(-1), dim=1)
        return sigma2.sqrt() * (weights[..., None] * apart / variance).sum(1)


def exact(x):
    apart = ((x[:, None] - MEANS.to(x)) / SD).square().sum(-1)
    logs = -0.5 * apart - math.log(2 * math.pi * SD**2)
    return torch.logsumexp(logs - math.log(2), dim=1)


# %%
torch.manual_seed(0)
x = (MEANS[torch.randint(2, (200,))] + SD * torch.randn(200, 2)).double()
flow = tweedie.likelihood(Noise(), x, schedule=SCHEDULE, estimator="ode")
bound = tweedie.likelihood(Noise(), x, schedule=SCHEDULE, estimator="elbo", steps=50)
print("exact", exact(x).mean().item())
print("flow ", flow)
print("bound", bound)
