"""ControlVAE (Shao et al. 2020): a PI controller holds the KL at a target that rises to 18 nats.

On dSprites, or on a set named after a colon:

    python -m deft_jax.train --config configs/control_vae.py --workdir runs/control_vae
    python -m deft_jax.train --config configs/control_vae.py:smallnorb --workdir runs/smallnorb_control_vae

The target rises every 500 steps, where the paper has 5,000: at its 0.15 nats a step, 18 need 585,000 steps there. A job
for an accelerator; not run to the end with this package.
"""

from deft_jax.studies import presets


def get_config(data=""):
    return presets.baseline("control_vae", data, beta=1.0, kl_target=18.0, period=500)
