"""kill -9 at random moments, and a history checker: `make chaos`, or `python -m tests.chaos`."""
