"""Tests of query intake."""
