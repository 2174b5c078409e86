"""python -m deft_jax.gallery SET [SET ...] [--out gallery.png] [--seed 0] [--options '{"path": "data/chairs"}']

A figure of data sets. Of several: one row of random images per set. Of one: random images, and one row per factor,
which takes its values while the others stay. SET is a name, or part of a set: 'dsprites(shape=heart)'. Default: all
sets that need no files. --options are those of the set, where there is one, as JSON.
"""

import json
from collections.abc import Sequence

from deft_jax.reporting.set_gallery import SETS_WITHOUT_FILES, gallery
from deft_jax.runtime import buckets, cli


def main(arguments: Sequence[str] | None = None) -> None:
    """The command. Bad input ends in one line and status 2."""
    parser = cli.Parser("deft_jax.gallery", __doc__)
    parser.add_argument("names", nargs="*", metavar="SET", help=f"data sets (default: {', '.join(SETS_WITHOUT_FILES)})")
    parser.add_argument("--out", default="gallery.png", help="PNG to write (default: gallery.png)")
    parser.add_argument("--seed", type=int, default=0, help="of the images (default: 0)")
    parser.add_argument("--options", default="{}", help="of the set, where there is one, as JSON")
    given = parser.parse_args(arguments)
    with cli.cli_errors("deft_jax.gallery"):
        try:
            options = json.loads(given.options)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"--options {given.options!r} is not JSON: {error}") from None
        if not isinstance(options, dict):
            raise ValueError(f"--options must be a JSON object, got {given.options}")
        with buckets.output_file(given.out, "--out") as path:
            gallery(given.names or SETS_WITHOUT_FILES, path, given.seed, options)
    print(given.out)


if __name__ == "__main__":
    main()
