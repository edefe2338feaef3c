"""The `vitrine` command's first step. What starts a service, what talks to a running one and what needs the database
alone begins at once: it never meets torch, which takes seconds to load. Everything else is `cli.py`'s.
"""

import argparse
import sys
from collections.abc import Sequence

from service import backup_cli, keys_cli, remote_cli, serve_cli
from service.errors import ServiceError
from service.settings import read_settings


def main() -> None:
    """Entry point."""
    if is_light(sys.argv[1:]):
        settings = read_settings()
        parser = argparse.ArgumentParser(prog="vitrine")
        commands = parser.add_subparsers(dest="command", required=True)
        serve_cli.add_command(commands, settings)
        keys_cli.add_commands(commands, settings)
        backup_cli.add_commands(commands, settings)
        remote_cli.add_commands(commands)
        remote_cli.add_model_commands(commands.add_parser("models").add_subparsers(dest="action", required=True))
        obey(parser)
        return
    from service.cli import main as all_commands

    all_commands()


def is_light(words: Sequence[str]) -> bool:
    """Whether this module knows the command, and not only its first word."""
    command, action = [*words[:2], "", ""][:2]
    return command in ("serve", "files", "jobs", "keys", "backup", "restore") or (
        command == "models" and action in remote_cli.MODEL_COMMANDS
    )


def obey(parser: argparse.ArgumentParser) -> None:
    """Runs what was asked for; errors a user can act on come without a traceback."""
    arguments = parser.parse_args()
    try:
        arguments.run(arguments)
    except (ServiceError, ValueError, RuntimeError, OSError) as error:
        sys.exit(f"vitrine: {error}")


if __name__ == "__main__":
    main()
