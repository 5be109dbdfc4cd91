"""What a service and the host agent say to each other: lines of JSON over a Unix socket or TCP, one answer to each.

A service says `Hello` once and is welcomed or refused; then it asks, and is told of the host's energy since a record that
it names, with its own part of it and nobody else's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

#: of the messages below; agents and services of different versions do not understand each other
PROTOCOL: Final = 1
#: where an agent listens unless it is told otherwise
SOCKET: Final = Path("/run/frugal-meter/agent.sock")
#: no two readings of a counter are closer than this: read often, RAPL tells what others compute (PLATYPUS, Lipp et al.
#: 2021, IEEE S&P; CVE-2020-8694), whose authors needed thousands of readings a second
FINEST_NS: Final = 100_000_000
#: bytes of a question, and of an answer
MAX_QUESTION: Final = 4096
MAX_ANSWER: Final = 65_536


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """Who asks. ``group``: processes of one service that bill from the same records. ``share``: the service's part of the
    host (0…1) where it is declared or limited, None to go by use. ``token``: over TCP, says which service it is.
    """

    protocol: int
    version: str
    service: str
    group: str
    share: float | None = None
    token: str | None = None


class Ask(msgspec.Struct, frozen=True, tag="ask"):
    """Tell what there was since the record that ended at ``since_ns`` (0: nothing, just name the last record).

    ``fresh``: wait for a record that begins its reading after this question. ``own_ns`` is the CPU of the asking process so
    far (believed over TCP only, where nobody can see it), ``more_ns`` that of its companions that its requests held, ``held``
    the time that its requests held each GPU since it asked for a fresh record last, ns, summed over them.
    """

    since_ns: int = 0
    fresh: bool = False
    own_ns: int = 0
    more_ns: int = 0
    held: dict[str, int] = {}


class Offered(msgspec.Struct, frozen=True):
    """What the agent has sensors for: cpu or dram, all packages together, or one GPU by what it covers ("gpu:GPU-3f…").

    Of a GPU: ``busy`` tells whether its driver says how busy it is, ``shared`` whether MIG instances share it.
    """

    component: str
    sensor: str
    resolution_nj: int
    provenance: str
    busy: bool = False
    shared: bool = False


class Welcome(msgspec.Struct, frozen=True, tag="welcome"):
    """What the agent can tell of."""

    version: str
    offered: tuple[Offered, ...]


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """Why not, and how to mend it, in one line."""

    why: str


class Part(msgspec.Struct, frozen=True):
    """A component from one record to another, nJ: the host's, and of it the asker's (``mine_nj`` of what is dynamic,
    ``held_nj`` of what is idle). ``gap`` is why ``gap_nj`` of it cannot be attributed; ``origin`` where idle comes from.

    Of a GPU also the asker's busy time, whether some of its part is by its word alone (``untold``), and what each of its own
    processes used of it (``users``, nJ by process id as the agent sees it).
    """

    energy_nj: int
    low_nj: int
    high_nj: int
    idle_nj: int
    gap_nj: int
    mine_nj: int
    held_nj: int
    gap: str | None = None
    origin: str = "none"
    silent: bool = False
    busy_ns: int = 0
    untold: bool = False
    users: dict[int, int] = {}

    @property
    def can_be(self) -> bool:
        """Whether these are parts of one whole."""
        parts = (self.low_nj, self.idle_nj, self.gap_nj, self.mine_nj, self.held_nj, self.busy_ns, *self.users.values())
        return (
            min(parts) >= 0
            and self.low_nj <= self.energy_nj <= self.high_nj
            and self.idle_nj + self.gap_nj + self.mine_nj <= self.energy_nj
            and self.held_nj <= self.idle_nj
        )


class Told(msgspec.Struct, frozen=True, tag="told"):
    """From the record that ended at ``t0_ns`` to the last one, ``t1_ns`` (monotonic); by component.

    ``t0_ns`` is 0, and ``parts`` empty, where the record that was asked for is not known here (the agent was started anew).
    ``host_ns`` is CPU of the whole host (None: unseen), ``own_ns`` that of the asker's group.
    """

    t0_ns: int
    t1_ns: int
    host_ns: int | None
    own_ns: int
    parts: dict[str, Part]


Question = Hello | Ask
Answer = Welcome | Refused | Told
question: Final = msgspec.json.Decoder(Question)
answer: Final = msgspec.json.Decoder(Answer)


def line(message: Question | Answer) -> bytes:
    """A message as it goes over the wire."""
    return msgspec.json.encode(message) + b"\n"
