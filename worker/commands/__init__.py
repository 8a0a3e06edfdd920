"""The commands of `python -m worker`, a file each. Settings come from CELLGRAFT_* as everywhere."""
