"""Looking before leaping: can the journal be used?"""

from __future__ import annotations

import os

from callrt.errors import ConfigError
from callrt.journal import SqliteStore, StoreFailed, database_path
from callrt.journal.store import Touch
from callrt.policy.settings import Settings


def probe_journal(settings: Settings, *, create: bool) -> None:
    """Commit an empty write to the journal. Raises :class:`ConfigError` in one sentence.

    ``create``: false leaves no new file behind, and is content if one could be made.
    """
    path = database_path(settings.journal_url, settings.folder)
    if not path.parent.is_dir():
        raise ConfigError(
            f"[journal] url: the folder {path.parent} does not exist; create it, or write another"
        )
    if not path.exists() and not create:
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise ConfigError(f"[journal] url: the folder {path.parent} cannot be written; write another")
        return
    store = SqliteStore(path)
    try:
        store.commit([Touch()])
        store.close()
    except StoreFailed as error:
        raise ConfigError(f"[journal] url: {path} cannot be used: {error.reason}") from None
