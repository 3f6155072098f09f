"""Bearer tokens: JWT, EdDSA only. A token names a customer, a service or an operator, and its scopes."""

import hashlib
import time
from contextvars import ContextVar
from dataclasses import dataclass

import grpc
import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from runtime.errors import Refusal

ALGORITHM = "EdDSA"
AUDIENCE = "openbell"
CACHED_TOKENS_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: `customer:cus_...`, `service:oms`, `operator:...`."""

    subject: str
    scopes: frozenset[str]
    expires_at: float  # seconds since 1970

    def may_use(self, customer_id: str) -> bool:
        """A customer may name its own accounts alone; services and operators any. Nobody else may name one."""
        kind, _, name = self.subject.partition(":")
        return name == customer_id if kind == "customer" else kind in ("service", "operator")


current: ContextVar[Caller] = ContextVar("caller")


def new_keys() -> tuple[str, str]:
    """(private, public) PEM."""
    private = Ed25519PrivateKey.generate()
    return (
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
        private.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode(),
    )


def mint(private_pem: str, subject: str, scopes: list[str], lifetime_seconds: int) -> str:
    now = int(time.time())
    claims = {"sub": subject, "aud": AUDIENCE, "iat": now, "exp": now + lifetime_seconds, "scope": " ".join(scopes)}
    return jwt.encode(claims, private_pem, algorithm=ALGORITHM)


class Verifier:
    """Checks tokens against one public key; a checked token is remembered by its hash (a check costs 86 us)."""

    def __init__(self, public_pem: str) -> None:
        self._public_pem = public_pem
        self._known: dict[bytes, Caller] = {}

    def caller(self, authorization: str | None) -> Caller:
        """Refusal UNAUTHENTICATED unless `authorization` is `Bearer TOKEN` with a valid token."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme != "Bearer" or not token:
            raise _unauthenticated("MISSING_TOKEN", "send metadata authorization: Bearer TOKEN")
        digest = hashlib.sha256(token.encode()).digest()
        caller = self._known.get(digest) or self._check(digest, token)
        if caller.expires_at <= time.time():
            raise _unauthenticated("EXPIRED_TOKEN", "the token has expired; make one with: openbell token")
        return caller

    def _check(self, digest: bytes, token: str) -> Caller:
        try:
            claims = jwt.decode(
                token,
                self._public_pem,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                options={"require": ["sub", "aud", "exp", "scope"]},
            )
        except jwt.ExpiredSignatureError:
            raise _unauthenticated("EXPIRED_TOKEN", "the token has expired; make one with: openbell token") from None
        except jwt.InvalidTokenError:
            raise _unauthenticated("INVALID_TOKEN", "the token is not valid here") from None
        caller = Caller(claims["sub"], frozenset(claims["scope"].split()), float(claims["exp"]))
        if len(self._known) >= CACHED_TOKENS_MAX:
            self._known.clear()
        self._known[digest] = caller
        return caller


def _unauthenticated(reason: str, message: str) -> Refusal:
    return Refusal(reason, grpc.StatusCode.UNAUTHENTICATED, message)


def require_scope(caller: Caller, scope: str | tuple[str, ...] | None, method: str) -> None:
    """One of several will do. A method without a scope in its service's table is denied to everybody."""
    wanted = (scope,) if isinstance(scope, str) else scope or ()
    if caller.scopes.isdisjoint(wanted):
        raise Refusal(
            "MISSING_SCOPE",
            grpc.StatusCode.PERMISSION_DENIED,
            f"{method} needs the scope {' or '.join(wanted) or 'that nobody has'}",
            scope=" ".join(wanted),
        )
