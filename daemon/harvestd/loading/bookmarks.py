"""A bookmark's name and its JSON value, checked before the driver; a refusal quotes no value."""

from __future__ import annotations

from harvestd.errors import WriteRefused
from harvestd.loading.columns import Column, utf8_size
from harvestd.loading.values import converter

NAME_BYTES_MAX = 1_000
"""It is part of a primary key, and an entry of an index has less than 2,700 bytes."""

VALUE = Column("value", "jsonb", is_array=False, generated=False, in_key=False)


def checked_bookmark(name: object) -> str:
    """``name``, when a bookmark may be called so.  Raises: WriteRefused."""
    if isinstance(name, str) and "\0" not in name and 0 < utf8_size(name) <= NAME_BYTES_MAX:
        return name
    raise WriteRefused(
        "this is no name of a bookmark"
        + ("" if isinstance(name, str) else f": a value of type {type(name).__name__[:60]}"),
        why=f"it is a str of at most {NAME_BYTES_MAX:,} bytes in UTF-8, not empty, without NUL",
        next_step='name it by the id of what it is about: f"repository {id}"',
    )


def bookmark_text(name: str, value: object) -> str | None:
    """``value`` as JSON; None, which removes the bookmark, stays None.  Raises: WriteRefused."""
    if value is None:
        return None
    try:
        return str(converter(VALUE)(value))
    except WriteRefused as error:
        raise WriteRefused(
            f"bookmark {name[:60]!r} (jsonb) cannot take this value",
            why=error.why,
            next_step=error.next_step,
        ) from None
