"""run: claim and do jobs until told to stop."""

from __future__ import annotations

import logging
import signal
from types import FrameType

from app.logs import set_up_logs
from app.presence import SignOfLife
from app.settings import Settings
from worker.commands.opening import Opened, open_worker
from worker.layers import warn

log = logging.getLogger(__name__)


def run() -> None:
    """Check queries, map them and build references, until SIGTERM or Ctrl-C."""
    settings = Settings()
    serve(open_worker(settings), settings)


def serve(opened: Opened, settings: Settings) -> None:
    """`run` with what has been opened."""
    set_up_logs(settings.log_level)
    parent = opened.parent()
    sign = SignOfLife(settings.data_dir)

    def stop(_number: int, _frame: FrameType | None) -> None:
        parent.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    log.info("worker %s begins", parent.name)
    warn(opened.place.zygote.layers)
    try:
        with opened.listening(parent):
            parent.run(at_each_turn=sign.give)
    finally:
        sign.withdraw()
        opened.database.close()
    log.info("worker %s ends", parent.name)
