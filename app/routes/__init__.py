"""HTTP: each file parses, calls one use-case and shapes the answer."""
