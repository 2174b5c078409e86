"""Entry point of `python -m benchmarks`; see suite.py."""

from benchmarks import suite

if __name__ == "__main__":
    suite.main()
