"""Jobs of a task queue: what `identify()` says in one of them ends with it."""

from __future__ import annotations

import sys
from typing import Any

from trubrics_instrument._base.shield import shield
from trubrics_instrument._context.scope import Job

_jobs: dict[object, Job] = {}


def note_job() -> None:
    """Take note that something is identified here; where Celery runs a task, until that is over.

    Its workers run one task after the other in one thread, and so in one place.
    Source: celery 5.2 to 5.7, `app/trace.py`.
    """
    celery: Any = sys.modules.get("celery")
    if celery is None:
        return
    with shield("asking Celery for its task"):
        task = celery.current_task
        if task:
            _begin(task.request.id, celery.signals.task_postrun)


def _begin(task_id: object, end: Any) -> None:
    if task_id not in _jobs:
        _jobs[task_id] = Job()
        _jobs[task_id].__enter__()
        end.connect(_end, weak=False, dispatch_uid=__name__)


def _end(task_id: object = None, **_: object) -> None:
    job = _jobs.pop(task_id, None)
    if job is not None:
        job.__exit__()
