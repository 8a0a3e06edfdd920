"""Query intake: an uploaded h5ad is proved and comes out as the canonical query."""
