"""Jobs of a task queue: what `identify()` says in one of them ends with it."""

from __future__ import annotations

import sys
from threading import get_ident
from typing import Any

from trubrics_instrument._base.shield import shield
from trubrics_instrument._context.scope import Job

_jobs: dict[object, Job] = {}


def note_job() -> None:
    """Take note that something is identified here; where Celery runs a task, until that is over.

    Its workers run one task after the other in one thread, and so in one place.
    Source: celery 5.2 to 5.7, `app/trace.py`.
    """
    state: Any = sys.modules.get("celery._state")
    if state is None:
        return
    with shield("asking Celery for its task"):
        # Not the current task: a task may call another one as a function, which ends nothing.
        task = state.get_current_worker_task()
        if task is not None:
            _begin(task.request.id, sys.modules["celery.signals"].task_postrun)


def _begin(task_id: object, end: Any) -> None:
    key = task_id, get_ident()  # one that is delivered again may run beside itself
    if key not in _jobs:
        _jobs[key] = Job()
        _jobs[key].__enter__()
        end.connect(_end, weak=False, dispatch_uid=__name__)


def _end(task_id: object = None, **_: object) -> None:
    job = _jobs.pop((task_id, get_ident()), None)
    if job is not None:
        job.__exit__()
