"""`openbell token`: a bearer token for a customer or an operator."""

from typing import Annotated

import typer

from ops.failure import Failure
from ops.options import DEFAULT_DATA, Data, Json, print_json
from runtime import auth
from runtime.settings import load

SCOPES = {"customer": ["trade", "read"], "operator": ["operate", "read", "trade"]}

Subject = Annotated[str, typer.Argument(help="customer:ID or operator:NAME")]
Scope = Annotated[list[str] | None, typer.Option("--scope", help="Only these of the subject's scopes.")]
Hours = Annotated[int, typer.Option("--hours", min=1, max=24 * 365, help="How long it is valid.")]


def token(
    subject: Subject, scope: Scope = None, hours: Hours = 12, data: Data = DEFAULT_DATA, as_json: Json = False
) -> None:
    """Make a token: send it as metadata `authorization: Bearer TOKEN`."""
    kind, _, name = subject.partition(":")
    if kind not in SCOPES or not name:
        raise Failure(f"a token is for customer:ID or operator:NAME, not {subject!r}")
    if unknown := set(scope or []) - set(SCOPES[kind]):
        raise Failure(f"{kind}s have the scopes {', '.join(SCOPES[kind])}, not {', '.join(sorted(unknown))}")
    private = load(data.resolve()).secret("token_private.pem")
    made = auth.mint(private, subject, scope or SCOPES[kind], hours * 3600)
    if as_json:
        print_json({"subject": subject, "scopes": scope or SCOPES[kind], "token": made})
    else:
        typer.echo(made)
