"""The langchain tests collect garbage often: what is there before them is not worth a look."""

from __future__ import annotations

import gc

gc.freeze()
