"""What Python itself reads at the start of each process below `trubrics-instrument run`.

Any Python may come by here, an older one without this package too.
"""

import importlib
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
# Set by `run` to its own process id, which is the app's: only that one is told what is wrong.
RUN_PID = "TRUBRICS_RUN_PID"


def watch_imports() -> None:
    """Patch what the app imports, when it does."""
    try:
        from trubrics_instrument.zero_code.imports import patch_on_import

        patch_on_import()
    except Exception as error:
        if os.environ.get(RUN_PID) == str(os.getpid()):
            sys.stderr.write(
                f"trubrics-instrument: nothing is observed: {type(error).__name__}: {error}. "
                f"Is it installed? {sys.executable} -m pip install trubrics-instrument\n"
            )


def hand_on() -> None:
    """Leave the road as it would be without us, and let the next `sitecustomize` have its turn."""
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or os.curdir) != HERE]
    ours = sys.modules.pop(__name__)
    try:
        importlib.import_module(__name__)  # the one that ours was found before
    except ImportError as error:
        sys.modules[__name__] = ours  # the import system asks for it when this file is done
        if error.name != __name__:
            raise


watch_imports()
hand_on()
