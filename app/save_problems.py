"""What is wrong with a saved model that is to be imported."""

from __future__ import annotations

from app.rfc9457 import Problem


class UnreadableSave(Problem):
    status = 422
    title = "The saved model cannot be read."


class UnsafeSave(Problem):
    status = 422
    title = "The saved model asks for code to be run."


class UnsupportedSave(Problem):
    status = 422
    title = "This kind of saved model is not supported."


class InconsistentSave(Problem):
    status = 422
    title = "The parts of the saved model do not fit together."


class HubUnreachable(Problem):
    status = 502
    title = "The model cannot be fetched from the Hugging Face Hub."
