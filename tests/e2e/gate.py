"""A gate: where a query stands until a test lets it go on, for nothing but a look now and then.

What belongs here: the function that stands there, in workers. It travels as text in scripts (queries.py) and as itself in plans
of the Python package (clients.py), so it names nothing of this module. Opening gates is `Queries.open`.
"""

from __future__ import annotations

import inspect


def at_gate(gate: str):
    """A function of frames that gives back what it gets once there is something at the address."""

    def wait(frame):
        import time
        import urllib.request

        while True:
            try:
                urllib.request.urlopen(gate, timeout=10).close()
                return frame
            except OSError:
                time.sleep(0.2)

    return wait


#: For scripts.
SOURCE = inspect.getsource(at_gate)
