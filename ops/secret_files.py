"""DATA/secrets: made once, mode 0600, never printed."""

import os
import secrets
from collections.abc import Callable
from functools import partial
from pathlib import Path

from runtime import auth, db

SCHEMAS = ("oms", "ledger", "ems")
# What a service may do at the others. A customer's token comes from `openbell token`.
SERVICE_SCOPES = {
    "oms": ["hold", "route", "log", "read"],
    "ledger": ["log"],
    "ems": ["read"],
    "ops": ["log", "read"],
}
SERVICE_TOKEN_SECONDS = 10 * 365 * 86_400


def write(data: Path, name: str, text: str) -> None:
    path = data / "secrets" / name
    new = path.with_name(path.name + ".new")
    # Private from its first instant: chmod after writing would leave a gap.
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text.strip() + "\n")
    new.replace(path)


def read_or_make(data: Path, name: str, make: Callable[[], str]) -> str:
    path = data / "secrets" / name
    if not path.exists():
        write(data, name, make())
    return path.read_text().strip()


def make_all(data: Path) -> None:
    """Signing keys, a token per calling service, a password per database role. What exists stays as it is."""
    if not (data / "secrets" / "token_public.pem").exists():
        private, public = auth.new_keys()
        write(data, "token_private.pem", private)
        write(data, "token_public.pem", public)
    if not (data / "secrets" / "chain_public.pem").exists():
        private, public = auth.new_keys()
        write(data, "chain_private.pem", private)
        write(data, "chain_public.pem", public)
    read_or_make(data, "ledger_seal", lambda: secrets.token_hex(32))
    private = (data / "secrets" / "token_private.pem").read_text()
    for service, scopes in SERVICE_SCOPES.items():
        make = partial(auth.mint, private, f"service:{service}", scopes, SERVICE_TOKEN_SECONDS)
        read_or_make(data, f"token_{service}", make)
    for role in ("admin", *SCHEMAS):
        password(data, role)


def password(data: Path, role: str) -> str:
    return read_or_make(data, f"password_{role}", lambda: secrets.token_hex(24))


def write_database_urls(data: Path, admin_url: str, role_names: dict[str, str]) -> None:
    """`database_admin`, and `database_SCHEMA` per service; anew at each start, as the port may be another."""
    write(data, "database_admin", admin_url)
    for schema, role in role_names.items():
        write(data, f"database_{schema}", db.with_role(admin_url, role, password(data, schema)))
