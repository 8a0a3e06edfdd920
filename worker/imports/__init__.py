"""Reading what scvi-tools saved, in a sandbox, by a machine that can build plain data alone."""
