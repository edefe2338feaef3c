"""Ids of things: a prefix that tells the kind, and 96 random bits."""

import secrets


def new_id(prefix: str) -> str:
    return f"{prefix}-{secrets.token_hex(12)}"
