"""Parts of messages."""


def short_repr(value: object) -> str:
    """The repr of a value in one line, cut where it is longer than 80 characters."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."
