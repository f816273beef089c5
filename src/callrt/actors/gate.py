"""Account-wide failures are known to every call of the process, not found out anew by each (a breaker)."""

from __future__ import annotations

import attrs


@attrs.define
class AccountGate:
    """Closed for ``closed_seconds`` after a provider said that the account itself is the problem. One call after
    that tries again; its success or failure decides for the others."""

    closed_seconds: float = 30.0
    accounts_max: int = 256
    _until: dict[tuple[str, str], float] = attrs.field(factory=dict, repr=False)

    def trip(self, url: str, api_key: str, now: float) -> None:
        self._until[url, api_key] = now + self.closed_seconds
        while len(self._until) > self.accounts_max:
            del self._until[next(iter(self._until))]

    def refuses(self, url: str, api_key: str, now: float) -> bool:
        until = self._until.get((url, api_key))
        if until is None:
            return False
        if now < until:
            return True
        # One trial at a time: whoever asks first goes through, the others wait for its verdict.
        self._until[url, api_key] = now + self.closed_seconds
        return False

    def pass_(self, url: str, api_key: str) -> None:
        """A session opened: the account is fine."""
        self._until.pop((url, api_key), None)
