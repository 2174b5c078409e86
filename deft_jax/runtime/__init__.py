"""What any command needs: configuration from the command line, files, locks, signals, progress, processes."""

from deft_jax.runtime.errors import CannotWrite
from deft_jax.runtime.jax_settings import pinned
from deft_jax.runtime.paths import local_path
from deft_jax.runtime.signals import Interrupted

__all__ = ["CannotWrite", "Interrupted", "local_path", "pinned"]
