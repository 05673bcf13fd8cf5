"""
Reads records whose headers have names that are no UTF-8.

A broker takes them, and Java's client shows U+FFFD there; aiokafka's fast parser raises, for ever, and with the record all
that was fetched beside it can't be had. So a process that meets one reads with aiokafka's slower parser from then on.
"""

from __future__ import annotations

from typing import Any, Final

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import _MemoryRecordsPy

from worker import logs

_MAGIC_OFFSET: Final = 16
_MAGIC_OF_HEADERS: Final = 2


def read_leniently() -> None:
    """Let every consumer of this process, from its next fetch on, put U+FFFD for what is no UTF-8 in a header's name."""
    if fetcher.MemoryRecords is not _Records:
        fetcher.MemoryRecords = _Records
        logs.logger().warning("kafka.client", message="a header's name is no UTF-8: reading with the slower parser from now on")


class _Records(_MemoryRecordsPy):  # type: ignore[misc]  # aiokafka has no types
    def next_batch(self) -> Any:  # noqa: ANN401 - aiokafka has no types
        raw = self._next_slice
        if raw is None or len(raw) <= _MAGIC_OFFSET or raw[_MAGIC_OFFSET] < _MAGIC_OF_HEADERS:
            return super().next_batch()
        self._cache_next()
        return _Batch(raw)


class _Batch(_DefaultRecordBatchPy):  # type: ignore[misc]  # aiokafka has no types
    def __iter__(self) -> _Batch:
        super().__iter__()
        self._buffer: bytearray = _Bytes(self._buffer)
        return self


class _Bytes(bytearray):
    """A batch whose parts decode leniently; only names are ever decoded."""

    def __getitem__(self, at: Any) -> Any:  # noqa: ANN401 - an index or a slice
        found = super().__getitem__(at)
        return _Part(found) if isinstance(at, slice) else found


class _Part(bytearray):
    def decode(self, encoding: str = "utf-8", _errors: str = "strict") -> str:
        """Put U+FFFD for what is no UTF-8."""
        return super().decode(encoding, "replace")
