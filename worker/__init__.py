"""The compute side of Cellgraft: query intake, fitting, mapping, building, and the claim loop."""
