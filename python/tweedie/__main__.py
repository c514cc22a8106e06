"""The program: ``tweedie``, or ``python -m tweedie``."""

import sys

from tweedie._loading import engine


def main() -> None:
    """Runs the program and ends with its exit code."""
    sys.stdout.flush()
    sys.exit(engine.main(["tweedie", *sys.argv[1:]]))


if __name__ == "__main__":
    main()
