"""Codes of images by a trained model.

    python -m deft_jax.encode --workdir DIR --images FOLDER|FILE [--out codes.npz] [--step N] [--crop PIXELS]

DIR may be gs://BUCKET/FOLDER or s3://BUCKET/FOLDER, and the result a file there; images are local files.
Images are the pictures of a folder and its sub-folders, or an .npz, .h5 or .hdf5 file with images [N, H, W] or
[N, H, W, C]. Pictures are brought to the size and the channels of the model; in a file they must have them.

DIR may also be the name of a model that comes with the package, such as quickstart, where there is no folder of that
name.

The result has `mean` and `logvar` [N, D], the posterior of each image, in the order of `files` (paths within the
folder) or of the file; `stage`, that of the checkpoint, whose later groups are closed; and `latents_per_group`.
"""

import contextlib
import pathlib
from collections.abc import Iterator, Sequence

from deft_jax.runtime import buckets, cli
from deft_jax.runtime.paths import local_path


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command; a bad input ends in one line and status 2.

    Args:
      argv: arguments of the command line. Default: those of this process.
    """
    parser = cli.Parser("deft_jax.encode", __doc__)
    parser.add_argument("--workdir", required=True, metavar="DIR", help="workdir of a training, finished or not")
    parser.add_argument("--images", required=True, metavar="PATH", help="folder of pictures, or file of images")
    parser.add_argument("--out", default="codes.npz", metavar="FILE.npz", help="what is written (%(default)s)")
    parser.add_argument("--step", type=int, help="of the checkpoint (default: the newest)")
    parser.add_argument("--crop", type=int, help="side of the square that is cut from the middle of each picture first "
                        "(default: as the run was trained, or none)")
    args = parser.parse_args(argv)
    with cli.cli_errors("deft_jax.encode"):
        if pathlib.PurePath(args.out).suffix != ".npz" or pathlib.Path(args.out).is_dir():
            raise ValueError(f"--out must be a file that ends with .npz, got {args.out!r}")
        images = local_path(args.images, "--images")
        import deft_jax
        from deft_jax.training import encode_images

        with buckets.output_file(args.out, "--out") as out:
            model = deft_jax.load(args.workdir, args.step)
            with _naming_the_flag():
                codes = encode_images.encode_images(model, images, args.crop)
            encode_images.write_codes(out, codes)
    print(f"{args.out}: {len(codes.posterior.mean)} images, {model.model.num_latents} latents")


@contextlib.contextmanager
def _naming_the_flag() -> Iterator[None]:
    """Images are read as those of a training, whose field the messages name; here they are given by a flag."""
    try:
        yield
    except ValueError as error:
        # In place, as `buckets.addresses_in_errors`: some subclasses of ValueError cannot be made from a text alone.
        parts = (part.replace("data.path", "--images") if isinstance(part, str) else part for part in error.args)
        error.args = tuple(parts)
        raise


if __name__ == "__main__":
    main()
