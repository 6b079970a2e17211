"""Who works on what: claims in the store, each with a lease that has to be renewed.

A claim is held by one worker at a time. A worker that dies renews nothing, so
its claim is anybody's when the lease ends, and the death is counted: what
kills every worker that touches it can be left alone. Each step is one
statement, whole or not at all, and the only clock is the database's.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from nas import tables
from nas.holders import is_known_dead
from nas.store import Store

_TABLE = tables.claims.c


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What one worker works on until its lease ends. ``num_deaths`` holders died of it before, or lost their way."""

    subject: str
    holder: str
    num_deaths: int


def claim(store: Store, subject: str, *, holder: str, lease_s: float) -> Claim | None:
    """Take a claim that nobody holds, or whose holder let its lease end.

    Who holds it already gets it again, with a new lease.

    Args:
        store: What all workers share.
        subject: What to work on, up to 255 characters.
        holder: One name for each worker, never used again, up to 64 characters.
        lease_s: How long it stays the holder's without `renew_all`.

    Returns:
        The claim, or ``None`` while another worker holds it.

    Raises:
        StoreError: If the store cannot be read or written.
    """

    def take(connection: sa.Connection) -> int | None:
        now_s = _now_s(connection)
        insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
        is_lost = sa.and_(_TABLE.holder.is_not(None), _TABLE.holder != holder)
        row = {"subject": subject, "holder": holder, "expires_at_s": now_s + lease_s, "num_deaths": 0}
        statement = (
            insert(tables.claims)
            .values(row)
            .on_conflict_do_update(
                index_elements=[_TABLE.subject],
                set_={
                    "holder": holder,
                    "expires_at_s": now_s + lease_s,
                    "num_deaths": _TABLE.num_deaths + sa.case((is_lost, 1), else_=0),
                },
                where=sa.or_(_TABLE.holder.is_(None), _TABLE.holder == holder, _TABLE.expires_at_s <= now_s),
            )
            .returning(_TABLE.num_deaths)
        )
        return connection.execute(statement).scalar()

    num_deaths = store.transaction(take)
    return None if num_deaths is None else Claim(subject=subject, holder=holder, num_deaths=num_deaths)


def release(store: Store, held: Claim) -> None:
    """Give a claim back, if it is still the holder's. Its deaths stay counted.

    Raises:
        StoreError: If the store cannot be read or written.
    """
    own = sa.and_(_TABLE.subject == held.subject, _TABLE.holder == held.holder)
    statement = sa.update(tables.claims).where(own).values(holder=None)
    store.transaction(lambda connection: connection.execute(statement))


def renew_all(store: Store, holder: str, *, lease_s: float) -> None:
    """Begin the leases of everything a holder still has again.

    Raises:
        StoreError: If the store cannot be read or written.
    """

    def renew_own(connection: sa.Connection) -> None:
        expires_at_s = _now_s(connection) + lease_s
        connection.execute(sa.update(tables.claims).where(_TABLE.holder == holder).values(expires_at_s=expires_at_s))

    store.transaction(renew_own)


def forget(store: Store, held: Claim) -> None:
    """Give a claim back whose work is done for good: nothing of it stays.

    Raises:
        StoreError: If the store cannot be read or written.
    """
    own = sa.and_(_TABLE.subject == held.subject, _TABLE.holder == held.holder)
    store.transaction(lambda connection: connection.execute(sa.delete(tables.claims).where(own)))


def forget_all(store: Store, holder: str) -> None:
    """Give everything back that a holder still has; of what others died of, the deaths stay counted.

    Raises:
        StoreError: If the store cannot be read or written.
    """
    own = _TABLE.holder == holder

    def give_back(connection: sa.Connection) -> None:
        connection.execute(sa.delete(tables.claims).where(own, _TABLE.num_deaths == 0))
        connection.execute(sa.update(tables.claims).where(own).values(holder=None))

    store.transaction(give_back)


def end_leases(store: Store, holder: str) -> None:
    """Make everything anybody's, from now on, that a holder has who is known to be dead.

    Raises:
        StoreError: If the store cannot be read or written.
    """

    def end_own(connection: sa.Connection) -> None:
        now_s = _now_s(connection)
        own = sa.and_(_TABLE.holder == holder, _TABLE.expires_at_s > now_s)
        connection.execute(sa.update(tables.claims).where(own).values(expires_at_s=now_s))

    store.transaction(end_own)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimState:
    """A claim as the store has it. ``left_s`` is what is left of the lease, below 0 once it has ended."""

    subject: str
    holder: str | None
    num_deaths: int
    left_s: float

    @property
    def is_live(self) -> bool:
        """Whether somebody holds it whose lease goes on, and who is not known to be dead."""
        return self.holder is not None and self.left_s > 0 and not is_known_dead(self.holder)


def find_claims(store: Store, prefix: str) -> list[ClaimState]:
    """Return the claims whose subject begins with ``prefix``.

    Raises:
        StoreError: If the store cannot be read.
    """

    def find(connection: sa.Connection) -> list[ClaimState]:
        left_s = (_TABLE.expires_at_s - _now_s(connection)).label("left_s")
        query = sa.select(_TABLE.subject, _TABLE.holder, _TABLE.num_deaths, left_s)
        query = query.where(_TABLE.subject.startswith(prefix, autoescape=True)).order_by(_TABLE.subject)
        return [ClaimState(**row) for row in connection.execute(query).mappings()]

    return store.transaction(find)


def clock_s(store: Store) -> float:
    """Return the time of the database's clock, in seconds since 1970.

    Raises:
        StoreError: If the store cannot be read.
    """
    return store.transaction(lambda connection: connection.execute(sa.select(_now_s(connection))).scalar_one())


def _now_s(connection: sa.Connection) -> sa.ColumnElement[float]:
    """Return the database's own time in seconds since 1970, as it is when a statement is carried out."""
    if connection.dialect.name == "sqlite":
        return sa.literal_column("((julianday('now') - 2440587.5) * 86400.0)", sa.Double)
    return sa.cast(sa.extract("epoch", sa.func.clock_timestamp()), sa.Double)
