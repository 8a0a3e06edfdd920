"""Tests of the worker's processes."""
