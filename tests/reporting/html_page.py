"""A page as tests read it: its tags, texts and tables, and the images inside it."""

import base64
import html.parser
import io

from matplotlib import image

from deft_jax.reporting.rendering import Article, Page, render


class HtmlPage(html.parser.HTMLParser):
    """Tags with their attributes, texts by the tag around them, rows of tables."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.texts, self.rows = [], [], {}, []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
        elif tag == "data":
            self.rows[-1][-1] = float(dict(attributes)["value"])

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        if self.open and data.strip():
            self.texts.setdefault(self.open[-1], []).append(" ".join(data.split()))
        if self.rows and self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data

    def attributes(self, tag, **wanted):
        """Attributes of every such tag that has these among them."""
        return [attributes for name, attributes in self.tags if name == tag and wanted.items() <= attributes.items()]


def render_section(section):
    """A page of one section."""
    return HtmlPage(render(Page("title", None, [Article("run-0", "run", "training", [section])])))


def decode_image(uri):
    """The pixels of a PNG in a data URI; None for a whole SVG."""
    head, _, content = uri.partition(";base64,")
    content = base64.b64decode(content, validate=True)
    if head == "data:image/svg+xml":
        assert b"<svg" in content
        assert content.rstrip().endswith(b"</svg>")
        return None
    assert head == "data:image/png"
    return image.imread(io.BytesIO(content))
