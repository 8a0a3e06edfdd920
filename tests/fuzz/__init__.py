"""Damaged files by the ten thousand, and a control without the proof: `make fuzz`."""
