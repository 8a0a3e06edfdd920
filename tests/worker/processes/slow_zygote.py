"""A zygote on a machine that takes its time to start one."""

from __future__ import annotations

import time

from worker import zygote

if __name__ == "__main__":
    time.sleep(1.5)
    zygote.main()
