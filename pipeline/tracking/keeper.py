"""What the process beside a running stage does: it keeps the stage's MLflow row.

`pipeline.tracking.forkserver` makes the process. It reads one JSON object per line: first what the row is
of, then points of curves, then the end. When the stage is gone without a last word, this process sends what
it has and goes; the next stage then sets the row to KILLED.
"""

from __future__ import annotations

import json
import os
import threading
import time
from queue import SimpleQueue
from typing import Any, TextIO

from pipeline.tracking.execution import Execution
from pipeline.tracking.mirror import Point
from pipeline.workspace.logs import start_logging

Message = dict[str, Any]

_GRACE_S = 20.0  # for a store that does not answer, once nobody waits for it


def keep(lines: TextIO) -> None:
    """Keep the row that the first line names until the last line has come."""
    start_logging()
    messages: SimpleQueue[Message] = SimpleQueue()
    line = lines.readline()
    if not line.endswith("\n"):  # the stage ended before it had said what the row is of
        return
    threading.Thread(target=_read, args=(lines, messages), daemon=True).start()
    execution = Execution(**json.loads(line))
    execution.start()
    while True:
        message = messages.get()
        if "points" in message:
            execution.log_live([Point(*values) for values in message["points"]])
        elif "failed" in message:
            execution.fail(message["failed"], message["reason"])
            return
        elif "gone" in message:
            execution.send_rest()
            return
        else:
            execution.finish()
            return


def _read(lines: TextIO, messages: SimpleQueue[Message]) -> None:
    """Take lines at once, so that the stage never waits for a slow store."""
    is_last = False
    for line in lines:
        if not line.endswith("\n"):  # the stage was killed while it wrote
            break
        message = json.loads(line)
        messages.put(message)
        is_last = "points" not in message
    if not is_last:
        messages.put({"gone": True})
        time.sleep(_GRACE_S)  # a daemon: it ends with the main thread
        os._exit(1)
