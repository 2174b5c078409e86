"""Images of two channels, and more latents than a figure shows, from the archive to the report."""

from unittest import mock

import jax
import numpy as np
import tiny
from matplotlib.image import imread

import deft_jax
from deft_jax.evaluation import encoder, latent_selection, plots
from deft_jax.models.posterior import kl_per_latent
from deft_jax.reporting import page as reporting_page
from deft_jax.reporting import set_gallery
from deft_jax.training import session

NUM_LATENTS, CHANNELS = 24, 2


def test_run_on_images_of_two_channels_ends_with_figures(tmp_path, monkeypatch):
    draw_traversals = mock.Mock(wraps=plots.traversals)
    monkeypatch.setattr(plots, "traversals", draw_traversals)
    factors = np.stack(np.unravel_index(np.arange(12), (3, 4)), -1)
    images = np.zeros((12, 16, 16, CHANNELS), np.uint8)
    for image, (channel, place) in zip(images, factors, strict=True):
        image[4 * place : 4 * place + 4, :8, channel % CHANNELS] = 255
    data = {"name": "archive", "path": str(tmp_path / "images.npz")}
    np.savez(data["path"], images=images, labels=factors)
    once = {"total_steps": 4, "stages": {"rule": "steps", "betas": (4.0,), "steps": 4}, "checkpoints": {"every": 100}}
    config = tiny.config(data=data, model={"latents": NUM_LATENTS, "groups": 1}, **once)
    session.run(config, tmp_path / "run", jax.devices()[:1])
    for name in ("traversals", "reconstructions", "nmi", "kl", "traversals_stage_0"):
        assert imread(tmp_path / "run" / "figures" / f"{name}.png").std() > 0.01

    model = deft_jax.load(tmp_path / "run")
    kl_D = np.asarray(kl_per_latent(model.encode_factors(encoder.draw_factors(model.source, 64, 0)))).mean(axis=0)
    images_LxT, labels, _, note = draw_traversals.call_args.args
    assert images_LxT.shape == (20, 9, 16, 16, CHANNELS)
    assert [label.split()[0] for label in labels] == [f"z{latent}" for latent in latent_selection.shown_latents(kl_D)]
    assert "20 of 24 latents" in note
    page = reporting_page.report([tmp_path / "run"], tmp_path / "report.html").read_text()
    assert page.count("data-latent=") == 20
    assert "20 of 24 latents, those of highest KL" in page
    assert set_gallery.rows(model.source)["random"].shape[-1] == CHANNELS
    figure = set_gallery.gallery(["archive"], tmp_path / "gallery.png", options={"path": data["path"]})
    assert imread(figure).std() > 0.01
