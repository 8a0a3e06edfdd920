"""All tests, mirroring the three packages."""
