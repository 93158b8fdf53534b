"""An answer that is fetched here, to a question that another process has asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trubrics_instrument import _runtime
from trubrics_instrument._context.identity import Claim, claimed_by_own_keys
from trubrics_instrument._conversations.awaited import Awaited
from trubrics_instrument._observing.observer import start_now

if TYPE_CHECKING:
    from trubrics_instrument._observing.observer import Start
    from trubrics_instrument._observing.reader import Answer


def asked_elsewhere(answer_id: str) -> Start | None:
    """Return since when another process waits for an answer; None if none does."""
    question = Awaited(_runtime.state().threads.board, answer_id).find()
    if question is None:
        return None
    return start_now(question.prompt_id)._replace(clock_s=question.since_s)


def who_asked(answer_id: str, here: Claim, answer: Answer) -> Claim | None:
    """Return who asked, and where, as far as the code here says that, or the answer repeats it.

    Whoever is not known to have asked is nobody here. None where nobody knows in which thread: an
    id of the app's own is known only if somebody says it again.
    """
    threads = _runtime.state().threads
    awaited, own = Awaited(threads.board, answer_id), claimed_by_own_keys(answer.metadata)
    thread_id = awaited.asker_of(own.thread_id, here.thread_id, answer.claim.thread_id)
    if thread_id is None and threads.of_answer(answer_id) is None:
        return None
    if awaited.is_asked_by(None):  # nobody was known there, but somebody may be by now
        return Claim(here.user_id, thread_id)
    user_id = awaited.asker_of(own.user_id, here.user_id, answer.claim.user_id)
    return Claim(user_id, thread_id)
