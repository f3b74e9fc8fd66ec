"""Every error that a user can cause: a stable code, one sentence, and a fix."""

from __future__ import annotations


class LockstepError(Exception):
    """An error that names its cause and its fix (the Python counterpart of src/errors.ts).

    ``code`` is stable (``LS_`` + area + what), ``message`` says what was expected and what was
    found, ``fix`` what to do about it.
    """

    def __init__(self, code: str, message: str, fix: str | None = None, field: str | None = None):
        super().__init__(message)
        self.code, self.message, self.fix, self.field = code, message, fix, field
        # If nothing catches it (inside vLLM's processes), the traceback still shows both.
        self.add_note(f"[{code}] {fix or ''}")

    def as_dict(self) -> dict[str, str]:
        out = {"code": self.code, "message": self.message}
        if self.fix is not None:
            out["fix"] = self.fix
        if self.field is not None:
            out["field"] = self.field
        return out
