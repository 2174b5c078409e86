"""From the data of a page to HTML: Jinja2 and the files in templates/, inlined into one document."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from deft_jax import __version__
from deft_jax.reporting.elements import Section
from deft_jax.reporting.score_comparison import ScoreComparison

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup


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


def render_section(section: Section, article: Article | None = None) -> str:
    """One section, as it stands on the page below its heading.

    Args:
      section: what is drawn.
      article: to which it belongs.
    """
    article = article or Article("run-0", "", "", [section])
    return _environment().get_template(section.template).render(section=section, article=article)


@functools.cache
def _environment() -> "Environment":
    import jinja2

    # Autoescape is on for all templates; the default would decide by the end of the name, which is .j2.
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("deft_jax.reporting"), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.globals["inline"] = functools.partial(_inline, environment)
    return environment


def _inline(environment: Any, name: str) -> "Markup":
    """The text of a style sheet or script, as it is."""
    from markupsafe import Markup

    return Markup(environment.loader.get_source(environment, name)[0])
