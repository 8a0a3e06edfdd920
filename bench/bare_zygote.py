"""A zygote whose children enter no sandbox, to measure what entering one costs."""

from __future__ import annotations

from worker import zygote

if __name__ == "__main__":
    zygote.enter_sandbox = lambda *_, **__: False
    zygote.main()
