"""An answer that is fetched here, to a question that another process has asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trubrics_instrument import _runtime
from trubrics_instrument._context.identity import Claim
from trubrics_instrument._conversations.awaited import Awaited
from trubrics_instrument._observing.call import ModelCall
from trubrics_instrument._observing.observer import start_now, who_asks

if TYPE_CHECKING:
    from trubrics_instrument._observing.observer import Observer
    from trubrics_instrument._observing.reader import AnswerReader, Asked


def fetching(reader: AnswerReader, asked: Asked, observer: Observer) -> ModelCall | None:
    """Return the call that ends with the answer that is `fetched`, if another process began it.

    None where no process waits for it, or where nobody knows in which thread: an id of the app's
    own is known only if the app says it again. A user who is not who asked is nobody here.
    """
    threads, answer_id = _runtime.state().threads, asked.fetched
    awaited = Awaited(threads.board, answer_id or "")
    question = awaited.find()
    if answer_id is None or question is None:
        return None
    start = start_now(question.prompt_id)
    user_id, thread_id = who_asks(asked, observer, start.said)
    if not (awaited.is_asked_by(user_id) or awaited.is_asked_by(None)):
        user_id = None
    if not awaited.is_asked_by(thread_id):
        thread_id = None
    if thread_id is None and threads.of_answer(answer_id) is None:
        return None
    said = start.said._replace(prompt_id=None)  # which is that of the request that fetches
    start = start._replace(clock_s=question.since_s, said=said)
    call = ModelCall(reader, asked._replace(claim=Claim(user_id, thread_id)), observer, start)
    call.begin()
    return call
