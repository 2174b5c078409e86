"""Information freezing points of dSprites by three instruments, in a quarter of an hour on two CPU cores.

    python -m deft_jax.annealing --config configs/ifp_dsprites.py --workdir runs/ifp

Expect the order posX, posY > scale > orientation from each. A word after a colon chooses another set or size, for
example --config configs/ifp_dsprites.py:color_dsprites, and two joined by a comma both:

    full                          100 trials a factor, a slower fall of beta, wider models; a job for an accelerator
    color_dsprites                trials draw their images in every step, which takes longer
    noisy_dsprites scream_dsprites  every pixel varies, so trials are fewer and shorter here
    correlated translation        the toy sets
"""

from ml_collections import ConfigDict, config_dict

from deft_jax.studies import data_sections

SETS = ("dsprites", "color_dsprites", "noisy_dsprites", "scream_dsprites", "correlated", "translation")


def get_config(choice=""):
    words = [word for word in choice.split(",") if word]
    unknown = [word for word in words if word not in (*SETS, "full")]
    if unknown:
        raise ValueError(f"unknown choice {unknown[0]!r} after the colon; known: {', '.join(SETS)}, full")
    name = next((word for word in words if word != "full"), "dsprites")

    config = ConfigDict()
    config.seed = 0
    config.data = data_sections.data_section(name)
    config.instruments = ("spectrum", "trials", "whole")

    config.spectrum = ConfigDict({"num_modes": 64, "num_samples": 8192, "share": 0.4})
    config.trials = ConfigDict(
        {
            "factors": (),  # all that vary
            "num_trials": 20,
            "steps": 4_000,
            "fall": "geometric",
            "beta_max": config_dict.placeholder(float),  # from the freezing spectrum
            "beta_min": 1.0,
            "threshold": 0.1,
            "smooth": 3,
            "latents": 1,
            "hidden": 32,
            "batch_size": 64,
            "learning_rate": 3e-3,
            "points": 200,
            "checkpoint_every": 1_000,
        }
    )
    config.whole = ConfigDict(
        {
            "beta_max": config_dict.placeholder(float),  # from the freezing spectrum
            "beta_min": 1.0,
            "threshold": 0.1,
            "smooth": 3,
            "batch_size": 16,
            "total_steps": 60_000,
            "model": ConfigDict(
                {
                    "kind": config_dict.placeholder(str),  # by the data: conv, mlp, conv1d
                    "layers": config_dict.placeholder(int),
                    "latents": 6,
                    "width": 8,
                    "hidden": 64,
                    "decoder_width": 8,
                    "decoder_hidden": 128,
                }
            ),
            "optimizer": ConfigDict({"learning_rate": 2e-3, "decoder_learning_rate": 2e-3, "decay": "constant"}),
            "log_every": 1_000,
            "evaluation": ConfigDict({"every": 1_000, "num_samples": 4_000, "seed": 0, "ledger": True}),
            "checkpoints": ConfigDict({"every": 6_000, "keep": 2}),
        }
    )
    config.betas = ConfigDict({"source": "spectrum", "last": 1.0, "separation": 1.25, "max_stages": 4})

    if name in ("noisy_dsprites", "scream_dsprites"):
        config.trials.update({"num_trials": 6, "steps": 1_000})
    if "full" in words:
        config.spectrum.num_samples = 32_768
        config.trials.update({"num_trials": 100, "steps": 20_000, "hidden": 64, "batch_size": 128})
        config.whole.update({"batch_size": 128, "total_steps": 150_000})
        config.whole.model.update(
            {"latents": 10, "width": 32, "hidden": 256, "decoder_width": 32, "decoder_hidden": 256}
        )
    return config
