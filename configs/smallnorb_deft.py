"""DEFT on SmallNORB with the author's betas 30, 5, 3, 1.

    python -m deft_jax.train --config configs/smallnorb_deft.py --workdir runs/smallnorb_deft

The forerunner of DEFT reached a MIG of 0.257 +- 0.011 over 6 seeds. Preparing the set needs TensorFlow once (extra
'tensorflow'). A job for an accelerator; not run to the end with this package.
"""

from deft_jax.studies import presets


def get_config():
    return presets.deft("smallnorb", (30.0, 5.0, 3.0, 1.0))
