"""The `vitrine` command, as a script and as `python -m service`. Ctrl-C ends it without a traceback, while it is still
being loaded too."""

import sys

from service.collector import loading

INTERRUPTED = 130  # what a shell says of a command that Ctrl-C ended


def main() -> None:
    try:
        with loading():
            from service.command import main as obey
        obey()
    except KeyboardInterrupt:
        print("vitrine: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
