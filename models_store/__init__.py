"""What a reference is: its manifest, its bundle, its network, and surgery on it."""
