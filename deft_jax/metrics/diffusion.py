"""Information diffusion in nats: home and foreign information of latents, and what an interval of training adds.

Wu et al. 2022 (arXiv 2102.03986) call it information diffusion that what enters at a lower beta spreads over latents
that are taken already. Here it is a number. With posteriors q(z|x) and factors v that are functions of the image, the
chain rule is exact,

    I(z_d; x) = I(z_d; v_k) + I(z_d; x | v_k).

The home of a latent is the factor that it knows most of; the rest, I(z_d; x) - I(z_d; v_home), is foreign.
information_ledger.py estimates a ledger from posteriors; docs/explanation/information_diffusion.md derives the numbers.
"""

import dataclasses
import functools
from typing import NamedTuple

import numpy as np

TAKEN = 0.1
"""Nats from which on a latent counts as taken."""


@dataclasses.dataclass(frozen=True, eq=False)
class Ledger:
    """The information of D latents about the image and about F factors, in nats.

    Attributes:
      information: I(z_d; x), [D].
      factor_information: I(z_d; v_k), [D, F], F at least 1.

    Example:
      >>> ledger = Ledger(np.array([2.0, 1.0]), np.array([[1.5, 0.0], [0.2, 0.8]]))
      >>> ledger.home.tolist(), ledger.foreign_information.round(3).tolist(), round(ledger.foreign, 3)
      ([0, 1], [0.5, 0.2], 0.233)
    """

    information: np.ndarray
    factor_information: np.ndarray

    @functools.cached_property
    def home(self) -> np.ndarray:
        """The factor that each latent knows most of, int [D]; of equal ones the first."""
        return self.factor_information.argmax(axis=1)

    @functools.cached_property
    def home_information(self) -> np.ndarray:
        """I(z_d; v_home), [D]."""
        return self.factor_information.max(axis=1)

    @functools.cached_property
    def foreign_information(self) -> np.ndarray:
        """I(z_d; x) - I(z_d; v_home), [D]."""
        return self.foreign_to(self.home)

    @functools.cached_property
    def taken(self) -> np.ndarray:
        """Whether a latent has TAKEN nats or more, bool [D]."""
        return self.information >= TAKEN

    def foreign_to(self, factor_D: np.ndarray) -> np.ndarray:
        """What each latent carries besides a factor given for it, I(z_d; x | v_factor[d]), [D], at least 0."""
        known_D = np.take_along_axis(self.factor_information, factor_D[:, None], axis=1)[:, 0]
        return np.maximum(self.information - known_D, 0.0)

    @property
    def foreign(self) -> float:
        """The share of foreign information, sum over d of the foreign over sum over d of all, in [0, 1]; 0 of none."""
        return _share(self.foreign_information.sum(), self.information.sum())

    @property
    def foreign_pairwise(self) -> float:
        """The same from single other factors: sum over d and k, k not home, of I(z_d; v_k), over all information.

        At most `foreign` where factors are independent: what only several factors together determine is not in it.
        """
        return _share(self.factor_information.sum() - self.home_information.sum(), self.information.sum())

    @property
    def spread_per_factor(self) -> np.ndarray:
        """1 - max over d of I(z_d; v_k) / sum over d of I(z_d; v_k), [F], in [0, 1); 0 where nothing is known."""
        total_F = self.factor_information.sum(axis=0)
        best_F = self.factor_information.max(axis=0)
        return 1.0 - np.divide(best_F, total_F, where=total_F > 0, out=np.ones(len(total_F)))

    @property
    def spread(self) -> float:
        """The mean of spread_per_factor, weighed by what is known of each factor, sum over d of I(z_d; v_k)."""
        total = self.factor_information.sum()
        return _share(total - self.factor_information.max(axis=0).sum(), total)


class Diffusion(NamedTuple):
    """What came in during an interval of training, in nats.

    Attributes:
      income: all information that latents gained.
      diffused: what of it is foreign information of latents that were taken before.
    """

    income: float
    diffused: float

    @property
    def share(self) -> float:
        """diffused / income, in [0, 1]; 0 where nothing came in."""
        return _share(self.diffused, self.income)

    def __add__(self, other: object) -> "Diffusion":
        """Of two intervals together."""
        if not isinstance(other, Diffusion):
            return NotImplemented
        return Diffusion(self.income + other.income, self.diffused + other.diffused)


def diffusion(before: Ledger, after: Ledger) -> Diffusion:
    """Of the nats that came in between two states of a model, those that diffused into latents taken before.

    A latent that was taken before has two accounts, of the factor that was its home then and of everything else; any
    other latent has one. What comes in is the sum of the accounts' gains. A gain of the second account of a taken
    latent has diffused; a gain of the first is refinement, that of a latent not taken is a new home. Losses do not
    offset gains: what leaves one account for another has come in there.

    Args:
      before, after: ledgers of the same D latents and F factors, best from the same images, whose sampling errors then
        cancel.

    Raises:
      ValueError: the shapes differ.

    Example:
      >>> before = Ledger(np.array([1.0, 0.0]), np.array([[1.0, 0.0], [0.0, 0.0]]))
      >>> after = Ledger(np.array([1.7, 0.5]), np.array([[1.2, 0.5], [0.0, 0.5]]))
      >>> change = diffusion(before, after)
      >>> round(change.income, 3), round(change.diffused, 3), round(change.share, 3)
      (1.2, 0.5, 0.417)
    """
    if before.factor_information.shape != after.factor_information.shape:
        shapes = f"{before.factor_information.shape} and {after.factor_information.shape}"
        raise ValueError(f"the ledgers must have the same latents and factors, got {shapes}")
    gained_D = np.maximum(after.information - before.information, 0.0)
    foreign_D = np.maximum(after.foreign_to(before.home) - before.foreign_information, 0.0)
    at_home_D = np.take_along_axis(after.factor_information, before.home[:, None], axis=1)[:, 0]
    refined_D = np.maximum(at_home_D - before.home_information, 0.0)
    income_D = np.where(before.taken, refined_D + foreign_D, gained_D)
    return Diffusion(float(income_D.sum()), float(foreign_D[before.taken].sum()))


def _share(part: float, whole: float) -> float:
    """part / whole within [0, ...), 0 of nothing."""
    return max(0.0, float(part / whole)) if whole > 0 else 0.0
