"""Who asks, and in which conversation: the first source that says so wins."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from trubrics_instrument._base.ids import clean_id, is_cut
from trubrics_instrument._base.shield import shield
from trubrics_instrument._base.uuids import uuid_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

Source: TypeAlias = "str | Callable[[], object] | None"

OWN_USER_KEY = "trubrics_user_id"
OWN_THREAD_KEY = "trubrics_thread_id"
OWN_KEYS = frozenset({OWN_USER_KEY, OWN_THREAD_KEY})
USER_KEYS = ("user_id",)
THREAD_KEYS = ("thread_id", "session_id", "conversation_id")

_ANONYMOUS = bytes.fromhex("6a8f2f3c51c55d0e9a0b0e6a2d1f7c11")


class Claim(NamedTuple):
    """What one source says of who asks, and where; None where it says nothing."""

    user_id: str | None = None
    thread_id: str | None = None


NO_CLAIM = Claim()


class Identity(NamedTuple):
    """Who asks, and where, settled at the start of a call and carried with it.

    Without a user it is the anonymous one of the thread, whom the sender's thread names: one
    shared "anonymous" would ruin the count of users.
    """

    user_id: str | None
    thread_id: str
    thread_inferred: bool = False

    def marks(self) -> dict[str, object]:
        """Return the properties that say what was made up, and what was cut."""
        marks: dict[str, object] = {}
        if self.user_id is None:
            marks["anonymous"] = True
        if self.thread_inferred:
            marks["thread_inferred"] = True
        if (self.user_id and is_cut(self.user_id)) or is_cut(self.thread_id):
            marks["id_truncated"] = True
        return marks


def first_of(claims: Iterable[Claim]) -> Claim:
    """Return the first user and the first thread that the claims name, in their order."""
    user_id = thread_id = None
    for claim in claims:
        user_id = user_id or claim.user_id
        thread_id = thread_id or claim.thread_id
    return Claim(user_id, thread_id)


def settle(claim: Claim, infer_thread: Callable[[], str]) -> Identity:
    """Return who asks, and where; without a thread, `infer_thread` gives one."""
    user_id, thread_id = claim
    if thread_id is None:
        return Identity(user_id, infer_thread(), thread_inferred=True)
    return Identity(user_id, thread_id)


@lru_cache(maxsize=1_000)
def anonymous_id(thread_id: str) -> str:
    """Return the user of a thread without a known user: the same in every process."""
    return f"anon-{uuid_of(_ANONYMOUS, thread_id)}"


def claimed_by_own_keys(metadata: Mapping[str, object]) -> Claim:
    """Return what `trubrics_user_id` and `trubrics_thread_id` of a call's metadata say."""
    if not metadata:
        return NO_CLAIM
    return Claim(clean_id(metadata.get(OWN_USER_KEY)), clean_id(metadata.get(OWN_THREAD_KEY)))


def claimed_by_keys(metadata: Mapping[str, object]) -> Claim:
    """Return what the usual keys of a call's metadata say."""
    if not metadata:
        return NO_CLAIM
    return Claim(_first(metadata, USER_KEYS), _first(metadata, THREAD_KEYS))


def _first(metadata: Mapping[str, object], keys: tuple[str, ...]) -> str | None:
    return next((found for key in keys if (found := clean_id(metadata.get(key)))), None)


def current(source: Source) -> str | None:
    """Return what one of an observer's arguments says: an id, or what a callable knows now."""
    if not callable(source):
        return clean_id(source)
    with shield("asking the app who the user is"):
        return clean_id(source())
    return None
