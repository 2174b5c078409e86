"""DEFT on pictures of chairs without labels, with the author's betas 60, 40, 1, in 5,000 steps a stage.

    python -m deft_jax.train --config configs/chairs_deft.py --workdir runs/chairs_deft

Give the folder by --config.data.path=DIR. Nothing is known of the pictures, so runs are compared by UDR: train several
seeds and call deft_jax.evaluate with all their workdirs and --metrics udr. A job for an accelerator; not run with this
package.
"""

from deft_jax.studies import presets


def get_config():
    return presets.deft("chairs", (60.0, 40.0, 1.0), steps=5_000, total_steps=30_000, groups=(4, 3, 3))
