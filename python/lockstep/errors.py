"""Every error that a user can cause: a stable code, one sentence, and a fix."""

from __future__ import annotations


class LockstepError(Exception):
    """An error that names its cause and its fix (the Python counterpart of src/errors.ts).

    ``code`` is stable (``LS_`` + area + what), ``message`` says what was expected and what came,
    ``mend`` is the fix.
    """

    def __init__(self, code: str, message: str, mend: str | None = None, field: str | None = None):
        super().__init__(message)
        self.code, self.message, self.mend, self.field = code, message, mend, field
        # If nothing catches it (inside vLLM's processes), the traceback still shows both.
        self.add_note(f"[{code}] {mend or ''}")

    def as_dict(self) -> dict[str, str]:
        out = {"code": self.code, "message": self.message}
        if self.mend is not None:
            out["mend"] = self.mend
        if self.field is not None:
            out["field"] = self.field
        return out
