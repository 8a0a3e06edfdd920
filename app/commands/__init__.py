"""The commands of `cellgraft`, a file for each group."""
