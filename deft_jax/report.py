"""python -m deft_jax.report DIR [DIR ...] [--out report.html] [--nolive]

One HTML page of one or more workdirs, of trainings (deft_jax.train) and of annealing tests (deft_jax.annealing). The
page is one file, images included: it opens without a network and can be sent by mail. Of a training it shows curves,
how information moves between latents, the decoder itself, which runs in the browser, traversals, reconstructions and
projections; of an annealing test the freezing points. Several trainings are compared by the scores of their
results.json, and any two on the same images by their live decoders. DIR may also be the folder of a study
(deft_jax.sweep) or of several seeds: all of its finished runs are compared, and one of each configuration is shown.
It may also be the name of a model that comes with the package, such as quickstart, where there is no folder of that
name.
"""

import pathlib
from collections.abc import Sequence

from deft_jax.reporting.page import report
from deft_jax.runtime import buckets, cli, pretrained
from deft_jax.runtime.paths import is_address


def main(arguments: Sequence[str] | None = None) -> None:
    """The command. Bad input ends in one line and status 2."""
    parser = cli.Parser("deft_jax.report", __doc__)
    parser.add_argument("workdirs", nargs="+", metavar="DIR", help="workdir of a training, an annealing test, a study")
    parser.add_argument("--out", help="page to write (default: report.html, in DIR where there is one, else here)")
    live = parser.add_mutually_exclusive_group()
    live.add_argument("--live", action="store_true", default=True, help="put decoders into the page (default)")
    live.add_argument("--nolive", dest="live", action="store_false", help="leave decoders out: a smaller page")
    given = parser.parse_args(arguments)
    is_one_folder = len(given.workdirs) == 1 and pretrained.folder_of(given.workdirs[0]) is None
    out = given.out or "/".join([*(given.workdirs if is_one_folder else []), "report.html"])
    with cli.cli_errors("deft_jax.report"):
        import logging

        logging.getLogger("absl").setLevel(logging.WARNING)
        with buckets.output_file(out, "--out") as path:
            megabytes = report(given.workdirs, path, live=given.live).stat().st_size / 1e6
    print(f"{pathlib.PurePath(out) if not is_address(out) else out} ({megabytes:.1f} MB)")


if __name__ == "__main__":
    main()
