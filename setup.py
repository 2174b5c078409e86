"""The list of packages; everything else stands in setup.cfg."""

from setuptools import find_packages, setup

# configs/ is installed inside the package, where `--config configs/X.py` finds it without a checkout.
setup(packages=[*find_packages(include=["deft_jax*"]), "deft_jax.configs", "deft_jax.configs.studies"])
