"""Information freezing points of vectors: scikit-learn's digits, in a minute on two CPU cores.

    python -m deft_jax.annealing --config configs/ifp_digits.py --workdir runs/ifp_digits

The factors of the set are not known, so the instruments are those that need none: the spectrum, and one VAE on the
whole set while beta falls. betas.json has the betas of the stages. A word after a colon chooses another set:
--config configs/ifp_digits.py:breast_cancer. Vectors of yours: --config.data.name=vectors --config.data.path=FILE.npz.
"""

from ml_collections import ConfigDict, config_dict

from deft_jax.studies import data_sections

SETS = ("digits", "breast_cancer")


def get_config(choice="digits"):
    if choice not in SETS:
        raise ValueError(f"unknown choice {choice!r} after the colon; known: {', '.join(SETS)}")
    config = ConfigDict()
    config.seed = 0
    config.data = data_sections.data_section(choice)
    config.instruments = ("spectrum", "whole")
    config.spectrum = ConfigDict({"num_modes": 32, "num_samples": 8192, "share": 0.4})
    config.whole = ConfigDict(
        {
            "beta_max": config_dict.placeholder(float),  # from the freezing spectrum
            "beta_min": 1.0,
            "threshold": 0.1,
            "smooth": 3,
            "batch_size": 64,
            "total_steps": 20_000,
            "model": ConfigDict(
                {
                    "kind": config_dict.placeholder(str),  # by the data: mlp, conv1d, conv
                    "layers": config_dict.placeholder(int),
                    "latents": 8,
                    "width": 128,
                    "hidden": 128,
                    "decoder_width": 128,
                    "decoder_hidden": 128,
                }
            ),
            "optimizer": ConfigDict({"learning_rate": 1e-3, "decoder_learning_rate": 1e-3, "decay": "constant"}),
            "log_every": 1_000,
            "evaluation": ConfigDict({"every": 500, "num_samples": 1_797, "seed": 0, "ledger": True}),
            "checkpoints": ConfigDict({"every": 5_000, "keep": 2}),
        }
    )
    config.betas = ConfigDict({"source": "whole", "last": 1.0, "separation": 1.25, "max_stages": 4})
    return config
