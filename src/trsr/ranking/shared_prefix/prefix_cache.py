"""Keys and values of prefixes, kept so that a user's second request costs the candidates alone."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock

from trsr.ranking.shared_prefix.attention import KeysAndValues


class PrefixMemory:
    """Remembers prefixes of one model; what was asked for longest ago goes first.

    A prefix is known by its token ids, so a user whose history or summary has changed is a new one. Clear it
    when the model's weights change. Keys and values of at most `max_bytes` are held; a prefix that is larger
    alone is not held.

    Examples
    --------
    >>> memory = PrefixMemory(max_bytes=100)
    >>> import torch
    >>> layer = (torch.zeros(1, 1, 5, 2), torch.zeros(1, 1, 5, 2))  # 80 bytes
    >>> memory.put((1, 2), {0: layer})
    >>> memory.put((3, 4), {0: layer})
    >>> memory.get((1, 2)) is None, memory.held_bytes
    (True, 80)
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._prefixes: OrderedDict[tuple[int, ...], dict[int, KeysAndValues]] = OrderedDict()
        self._lock = Lock()
        self.held_bytes = 0
        """Bytes of the keys and values that are held."""

    def __len__(self) -> int:
        return len(self._prefixes)

    def get(self, prefix: Sequence[int]) -> dict[int, KeysAndValues] | None:
        """Return a prefix's keys and values, layer by layer, if they are held."""
        with self._lock:
            layers = self._prefixes.get(tuple(prefix))
            if layers is not None:
                self._prefixes.move_to_end(tuple(prefix))
            return layers

    def put(self, prefix: Sequence[int], layers: dict[int, KeysAndValues]) -> None:
        """Hold a prefix's keys and values, at the cost of those that were not asked for lately."""
        size = _bytes(layers)
        with self._lock:
            self._forget(tuple(prefix))
            if size > self._max_bytes:
                return
            while self.held_bytes + size > self._max_bytes:
                self._forget(next(iter(self._prefixes)))
            self._prefixes[tuple(prefix)] = layers
            self.held_bytes += size

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._prefixes.clear()
            self.held_bytes = 0

    def _forget(self, prefix: tuple[int, ...]) -> None:
        self.held_bytes -= _bytes(self._prefixes.pop(prefix, {}))


def _bytes(layers: dict[int, KeysAndValues]) -> int:
    return sum(part.nbytes for pair in layers.values() for part in pair)
