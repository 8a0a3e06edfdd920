"""Why a save of scvi-tools cannot become a reference."""


class UnsupportedSave(Exception):
    """A model, or an option of one, that Cellgraft has no network for."""


class InconsistentSave(Exception):
    """The parts of a save contradict each other."""
