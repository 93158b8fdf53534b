"""A Celery app whose prefork children track."""

from __future__ import annotations

import importlib
import os
from typing import Any

from tests.delivery.apps import sender

folder = os.environ["CELERY_FOLDER"]
celery: Any = importlib.import_module("celery")  # without types
app: Any = celery.Celery("tests", broker="filesystem://")
app.conf.broker_transport_options = {
    "data_folder_in": f"{folder}/in",
    "data_folder_out": f"{folder}/in",
    "control_folder": f"{folder}/out",
}
app.conf.broker_connection_retry_on_startup = True


def _track(number: int) -> None:
    assert sender.put(number)


track: Any = app.task(_track, name="track")
