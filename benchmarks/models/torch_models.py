"""The models and the training steps of the comparison in PyTorch, written plainly: Conv2d, ConvTranspose2d, Adam.

Layer for layer the models of deft_jax/models and the losses of deft_jax/objectives (tests/test_benchmarks.py copies
parameters from one to the other and compares outputs, losses and gradients). Images are [B, C, H, W] here.
"""

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional

FACTOR_VAE_RATES = {"lr": 1e-4, "betas": (0.5, 0.9)}  # of the discriminator, Kim and Mnih 2018


def _down(inputs, outputs):
    return nn.Conv2d(inputs, outputs, kernel_size=4, stride=2, padding=1)


def _up(inputs, outputs):
    return nn.ConvTranspose2d(inputs, outputs, kernel_size=4, stride=2, padding=1)


class Encoder(nn.Sequential):
    """Images [B, C, H, W] -> [B, 2 * latents], means before logvars."""

    def __init__(self, image_shape, latents, width, hidden):
        height, columns, channels = image_shape
        super().__init__(
            _down(channels, width), nn.ReLU(),
            _down(width, width), nn.ReLU(),
            _down(width, 2 * width), nn.ReLU(),
            _down(2 * width, 2 * width), nn.ReLU(),
            nn.Flatten(),
            nn.Linear(2 * width * (height // 16) * (columns // 16), hidden), nn.ReLU(),
            nn.Linear(hidden, 2 * latents),
        )  # fmt: skip


class Decoder(nn.Sequential):
    """Codes [B, D] -> logits or means [B, C, H, W]."""

    def __init__(self, image_shape, latents, width, hidden):
        height, columns, channels = image_shape
        small = (2 * width, height // 16, columns // 16)
        super().__init__(
            nn.Linear(latents, hidden), nn.ReLU(),
            nn.Linear(hidden, math.prod(small)), nn.ReLU(),
            nn.Unflatten(1, small),
            _up(2 * width, 2 * width), nn.ReLU(),
            _up(2 * width, width), nn.ReLU(),
            _up(width, width), nn.ReLU(),
            _up(width, channels),
        )  # fmt: skip


class VAE(nn.Module):
    """One encoder for each group of latents and one decoder; sizes, widths and hidden have one entry a group."""

    def __init__(self, image_shape, sizes, widths, hidden, decoder_width, decoder_hidden):
        super().__init__()
        parts = zip(sizes, widths, hidden, strict=True)
        self.encoders = nn.ModuleList(Encoder(image_shape, *part) for part in parts)
        self.decoder = Decoder(image_shape, sum(sizes), decoder_width, decoder_hidden)
        self.sizes = tuple(sizes)

    def encode(self, x, stage):
        """(mean, logvar) [B, D] with the groups up to `stage` open; the others are zero and cost nothing."""
        means, logvars = [], []
        for group, (size, encoder) in enumerate(zip(self.sizes, self.encoders, strict=True)):
            if group <= stage:
                mean, logvar = encoder(x).chunk(2, dim=1)
            else:
                mean = logvar = x.new_zeros(len(x), size)
            means.append(mean)
            logvars.append(logvar)
        return torch.cat(means, dim=1), torch.cat(logvars, dim=1)


class Discriminator(nn.Sequential):
    """FactorVAE's critic of codes: [B, D] -> logits [B]."""

    def __init__(self, latents, width=1000, depth=6):
        layers = []
        for _ in range(depth):
            layers += [nn.Linear(latents, width), nn.LeakyReLU(0.2)]
            latents = width
        super().__init__(*layers, nn.Linear(latents, 1), nn.Flatten(0))


def log_density(z, mean, logvar):
    """log q(z_d|x) of each latent, in nats."""
    return -0.5 * (math.log(2 * math.pi) + logvar + (z - mean) ** 2 * torch.exp(-logvar))


def total_correlation(z, mean, logvar, num_images):
    """log q(z) - sum_d log q(z_d) by minibatch weighted sampling (Chen et al. 2018): [B]."""
    log_q = log_density(z[:, None], mean[None], logvar[None])
    weight = math.log(num_images * len(z))
    joint = torch.logsumexp(log_q.sum(2), dim=1) - weight
    return joint - (torch.logsumexp(log_q, dim=1) - weight).sum(1)


class Training:
    """A model, its optimisers and its loss; `step(x)` is one update.

    kind: 'beta_vae' (DEFT's stages too), 'beta_tcvae' or 'factor_vae'. rates: a learning rate for each open encoder
    group, and last that of the decoder. num_images: of the set, gamma: of FactorVAE.
    """

    def __init__(self, vae, kind, *, beta, stage, rates, likelihood="bernoulli", num_images=1, gamma=0.0, critic=None):
        self.vae, self.kind, self.beta, self.stage, self.likelihood = vae, kind, beta, stage, likelihood
        self.num_images, self.gamma, self.critic = num_images, gamma, critic
        parts = [*vae.encoders[: stage + 1], vae.decoder]
        groups = [{"params": part.parameters(), "lr": rate} for part, rate in zip(parts, rates, strict=True)]
        self.optimizers = [torch.optim.Adam(groups)]
        if critic is not None:
            self.optimizers.append(torch.optim.Adam(critic.parameters(), **FACTOR_VAE_RATES))
        self.loss = self.loss_of

    def compile(self):
        """Compiles the loss and its gradient, at the shape of the first batch; the optimisers stay as they are."""
        self.loss = torch.compile(self.loss_of, dynamic=False)

    def loss_of(self, x, noise, order=None):
        """The loss [] of images x [B, C, H, W], with noise [B, D] and, for FactorVAE, an order of each latent [B, D].

        FactorVAE's is the sum of the model's loss, in which the critic's weights are constants, and the critic's own.
        """
        mean, logvar = self.vae.encode(x, self.stage)
        z = mean + torch.exp(0.5 * logvar) * noise
        outputs = self.vae.decoder(z)
        if self.likelihood == "bernoulli":
            pixels = functional.binary_cross_entropy_with_logits(outputs, x, reduction="sum")
        else:
            pixels = functional.mse_loss(outputs, x, reduction="sum")
        kl = 0.5 * (torch.exp(logvar) + mean**2 - 1 - logvar).sum() / len(x)
        loss = pixels / len(x)
        if self.kind == "beta_vae":
            return loss + self.beta * kl
        if self.kind == "beta_tcvae":
            return loss + kl + (self.beta - 1) * total_correlation(z, mean, logvar, self.num_images).mean()
        constant = {name: value.detach() for name, value in self.critic.named_parameters()}
        told = torch.func.functional_call(self.critic, constant, z)
        fixed = z.detach()
        permuted = torch.gather(fixed, 0, order)
        critic_loss = functional.softplus(-self.critic(fixed)) + functional.softplus(self.critic(permuted))
        return loss + self.beta * kl + self.gamma * told.mean() + critic_loss.mean() / 2

    def step(self, x):
        """One update on images x."""
        noise = torch.randn(len(x), sum(self.vae.sizes), device=x.device)
        order = torch.rand_like(noise).argsort(0) if self.critic is not None else None
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        self.loss(x, noise, order).backward()
        for optimizer in self.optimizers:
            optimizer.step()


def _copy(layers, values):
    """Kernels and biases into PyTorch's layers: HWIO convolutions become OIHW, dense kernels are transposed."""
    for layer, leaves in zip(layers, values, strict=True):
        kernel = np.array(leaves["kernel"])
        kernel = kernel.transpose(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(np.ascontiguousarray(kernel)))
            layer.bias.copy_(torch.tensor(np.array(leaves["bias"])))


def _trained(sequence):
    return [layer for layer in sequence if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)]


def copy_parameters(params, vae, critic=None):
    """Parameters of a deft_jax state, {'encoder': ..., 'decoder': ..., 'objective': ...}, into these models."""
    for group, encoder in enumerate(vae.encoders):
        values = params["encoder"][f"group_{group}"]
        names = [f"ConvDown_{i}" for i in range(4)] + ["Dense_0", "Dense_1"]
        _copy(_trained(encoder), [values[name] for name in names])
    names = ["Dense_0", "Dense_1"] + [f"ConvUp_{i}" for i in range(4)]
    _copy(_trained(vae.decoder), [params["decoder"][name] for name in names])
    if critic is not None:
        layers = _trained(critic)
        _copy(layers, [params["objective"][f"Dense_{i}"] for i in range(len(layers))])
