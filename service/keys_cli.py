"""`vitrine keys`: make, list and revoke API keys, on the machine of the service."""

import argparse
import time
from typing import Any

from service.database import opened
from service.keys import SCOPES, KeyStore
from service.settings import Settings

DAY_SECONDS = 86_400.0


def add_commands(commands: Any, settings: Settings) -> None:
    parser = commands.add_parser("keys", help="API keys: create, list, revoke")
    actions = parser.add_subparsers(dest="action", required=True)
    create = actions.add_parser("create", help="make a key and show it, once; from then on the service wants one")
    create.add_argument("--owner", required=True, help="whose files, jobs and models it reaches")
    create.add_argument("--scopes", default=",".join(SCOPES), help=f"of {', '.join(SCOPES)}; default: all")
    create.add_argument("--days", type=float, help="how long it is good; default: until it is revoked")
    create.set_defaults(run=lambda arguments: _create(settings, arguments))
    listing = actions.add_parser("list", help="all keys, without their secrets")
    listing.set_defaults(run=lambda _: _list(settings))
    revoke = actions.add_parser("revoke", help="end a key at once")
    revoke.add_argument("key", help="its id, key-...")
    revoke.set_defaults(run=lambda arguments: _revoke(settings, arguments.key))


def _create(settings: Settings, arguments: argparse.Namespace) -> None:
    scopes = [scope.strip() for scope in arguments.scopes.split(",") if scope.strip()]
    lives_seconds = None if arguments.days is None else arguments.days * DAY_SECONDS
    with opened(settings.database_url) as database:
        row, key = KeyStore(database).create(arguments.owner, scopes, lives_seconds)
    print(f"{key}\n\n{row.id} of {row.owner}, {', '.join(row.scopes)}; this is the only time it is shown.")


def _list(settings: Settings) -> None:
    with opened(settings.database_url) as database:
        rows = KeyStore(database).all()
    for row in rows:
        state = "good"
        if row.revoked_at is not None:
            state = f"revoked {_day(row.revoked_at)}"
        elif row.expires_at is not None:
            state = f"{'expired' if row.expires_at < time.time() else 'good until'} {_day(row.expires_at)}"
        print(f"{row.id}  {row.owner}  {','.join(row.scopes)}  made {_day(row.created_at)}  {state}")


def _revoke(settings: Settings, key_id: str) -> None:
    with opened(settings.database_url) as database:
        KeyStore(database).revoke(key_id)
    print(f"{key_id} is revoked; running services refuse it within two seconds")


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))
