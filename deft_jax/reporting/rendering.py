"""From the data of a page to HTML: Jinja2 and the files in templates/, inlined into one document."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from deft_jax import __version__
from deft_jax.reporting.elements import Section
from deft_jax.reporting.score_comparison import ScoreComparison

if TYPE_CHECKING:
    from jinja2 import Environment


@dataclasses.dataclass(frozen=True)
class Article:
    """The sections of one run.

    Attributes:
      anchor: of links to it; those to its sections are '{anchor}-{index}'.
      title: of the run.
      kind: 'training' or 'annealing test'.
      sections: in the order of the page.
    """

    anchor: str
    title: str
    kind: str
    sections: Sequence[Section]


@dataclasses.dataclass(frozen=True)
class Page:
    """The whole page.

    Attributes:
      title: of the document.
      comparison: of the scores of several trainings, or None.
      articles: one per run that is shown.
    """

    title: str
    comparison: ScoreComparison | None
    articles: Sequence[Article]


def render(page: Page) -> str:
    """The page as one HTML document, without references to other files. All text is escaped."""
    return _environment().get_template("page.html.j2").render(page=page, version=__version__)


@functools.cache
def _environment() -> "Environment":
    import jinja2
    from markupsafe import Markup

    loader = jinja2.PackageLoader("deft_jax.reporting")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )

    def inline(name: str) -> Markup:
        """The text of a style sheet or script of the package, which is not escaped."""
        return Markup(loader.get_source(environment, name)[0])

    environment.globals["inline"] = inline
    return environment
