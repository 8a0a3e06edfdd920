"""The compute side: intake, mapping, reference building, and the processes that do them."""
