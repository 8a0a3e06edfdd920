"""`make demo` and `make serve`: Cellgraft from the outside, as its user sees it."""
