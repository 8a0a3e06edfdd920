"""On the path of a service under chaos: its compute child runs the stub. Nothing else changes."""

import sys

if "--runs" in sys.argv:  # the command line of worker.child; no other process has it
    sys.argv[sys.argv.index("--runs") + 1] = "tests.chaos.stub_runs"
