"""The framing of a record: a zip archive without compression, every byte of it known before the first is written.

::

    0.npy        local header, padded by its extra field so that the member begins at a multiple of 64 bytes;
                 a header of .npy files (a multiple of 64 bytes itself), the elements
    1.npy        ...
    tree.json    the last member, so that it can hold the checksums of the others
    directory    one entry for each member
    end          of the archive (with the 64-bit records before it where numbers need them)

`numpy.load` and `zipfile` read it. Sizes depend on the number and sizes of the members alone: checksums have a fixed
length. Times are all 1980-01-01, so that equal values give equal bytes.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

from megalith.exceptions import FormatError, TruncatedFileError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from megalith._typing import PathLike

FORMAT = "megalith.record"
VERSION = 1
TREE = "tree.json"

# The elements of each array begin at a multiple of it.
ALIGN = 64

# From here on a number needs the 64-bit records.
MOST_MEMBERS = 0xFFFF
LARGE = 0xFFFFFFFF

_LOCAL = struct.Struct("<4s5H3I2H")
_ENTRY = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END_64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR = struct.Struct("<4sIQI")
_PAIR = struct.Struct("<2H")

_LOCAL_SIGN = b"PK\3\4"
_ENTRY_SIGN = b"PK\1\2"
_END_SIGN = b"PK\5\6"
_END_64_SIGN = b"PK\6\6"
_LOCATOR_SIGN = b"PK\6\7"

# Versions of the zip format that are needed to read, and who made it: 3 is Unix, whose permissions stand in the entry.
_PLAIN, _ZIP64 = 20, 45
_MADE = 3 << 8
_PERMISSIONS = 0o100600 << 16
_DATE = 0x21

# The extra field of aligned archives (as zipalign writes it): the alignment, then zeros.
_PADDING = 0xD935
_PADDING_BYTES = 6
_ZIP64_EXTRA = 1

# Of the flags a member may have only that its name is UTF-8.
_UTF8 = 1 << 11

_CHECKSUM = re.compile(r"[0-9a-f]{16}")


class Place(NamedTuple):
    """Where a member lies."""

    name: str
    start: int
    """Offset of its local header."""
    offset: int
    """Offset of its bytes, a multiple of 64."""
    size: int


class Layout:
    """Where everything in an archive lies.

    Parameters
    ----------
    sizes : sequence of int
        Bytes of the members before the tree.
    tree_bytes : int
        Bytes of the tree.
    """

    def __init__(self, sizes: Sequence[int], tree_bytes: int) -> None:
        self.places: list[Place] = []
        position = 0
        names = [member_name(i) for i in range(len(sizes))]
        for name, size in zip([*names, TREE], [*sizes, tree_bytes], strict=True):
            offset = -(-(position + _local_bytes(name, size)) // ALIGN) * ALIGN
            self.places.append(Place(name, position, offset, size))
            position = offset + size
        self.directory = position
        self._directory_bytes = sum(len(_entry(place, 0)) for place in self.places)
        self.nbytes = position + self._directory_bytes + len(self._end())

    def local(self, i: int, crc32: int) -> bytes:
        """Return the local header of a member, padding included."""
        name, start, offset, size = self.places[i]
        is_large = size >= LARGE
        short = LARGE if is_large else size
        extra = _PAIR.pack(_ZIP64_EXTRA, 16) + struct.pack("<2Q", size, size) if is_large else b""
        padding = offset - start - _LOCAL.size - len(name) - len(extra)
        extra += struct.pack("<3H", _PADDING, padding - 4, ALIGN) + bytes(padding - _PADDING_BYTES)
        needed = _ZIP64 if is_large else _PLAIN
        fixed = _LOCAL.pack(_LOCAL_SIGN, needed, 0, 0, 0, _DATE, crc32, short, short, len(name), len(extra))
        return fixed + name.encode("ascii") + extra

    def tail(self, crcs: Sequence[int]) -> bytes:
        """Return the directory and the end."""
        entries = [_entry(place, crc32) for place, crc32 in zip(self.places, crcs, strict=True)]
        return b"".join([*entries, self._end()])

    def _end(self) -> bytes:
        n, start, size = len(self.places), self.directory, self._directory_bytes
        end = _END.pack(
            _END_SIGN, 0, 0, min(n, MOST_MEMBERS), min(n, MOST_MEMBERS), min(size, LARGE), min(start, LARGE), 0
        )
        if n < MOST_MEMBERS and size < LARGE and start < LARGE:
            return end
        made = _MADE | _ZIP64
        more = _END_64.pack(_END_64_SIGN, _END_64.size - 12, made, _ZIP64, 0, 0, n, n, size, start)
        return more + _LOCATOR.pack(_LOCATOR_SIGN, 0, start + size, 1) + end


def member_name(i: int) -> str:
    """Return the name of the member of an array."""
    return f"{i}.npy"


def _local_bytes(name: str, size: int) -> int:
    """Return the fewest bytes of a local header."""
    return _LOCAL.size + len(name) + (20 if size >= LARGE else 0) + _PADDING_BYTES


def _entry(place: Place, crc32: int) -> bytes:
    """Return the entry of a member in the directory."""
    name, start, _, size = place
    large = [n for n in (size, size, start) if n >= LARGE]
    extra = struct.pack(f"<2H{len(large)}Q", _ZIP64_EXTRA, 8 * len(large), *large) if large else b""
    version = _ZIP64 if large else _PLAIN
    short = min(size, LARGE)
    fixed = _ENTRY.pack(
        _ENTRY_SIGN,
        _MADE | version,
        version,
        0,
        0,
        0,
        _DATE,
        crc32,
        short,
        short,
        len(name),
        len(extra),
        0,
        0,
        0,
        _PERMISSIONS,
        min(start, LARGE),
    )
    return fixed + name.encode("ascii") + extra


def make_tree(value: Any, checksums: Sequence[int], about: Any = None) -> bytes:
    """Return the bytes of the tree.

    Parameters
    ----------
    value : object
        The tree of the value.
    checksums : sequence of int
        XXH3-64 of the members. The length of the result depends on their number alone.
    about : object
        What is to be known of the value: plain JSON.

    Returns
    -------
    tree : bytes
        JSON in ASCII.
    """
    head = {"format": FORMAT, "version": VERSION, "xxh3": [f"{checksum:016x}" for checksum in checksums]}
    tail = {"value": value} if about is None else {"value": value, "about": about}
    return json.dumps({**head, **tail}, separators=(",", ":"), allow_nan=False).encode("ascii")


class Archive(NamedTuple):
    """What an archive holds."""

    value: Any
    """The tree of the value."""
    members: list[tuple[int, int]]
    """Offset and size of the bytes of each array."""
    checksums: list[str]
    """Of each of these."""
    about: Any
    """What was said of the value; None if nothing was."""


class _Entry(NamedTuple):
    """What the directory says of a member."""

    offset: int
    size: int
    crc32: int


def parse(buffer: memoryview, path: PathLike) -> Archive:
    """Check the framing of an archive and find its members.

    Parameters
    ----------
    buffer : memoryview of bytes
        The whole file.
    path : path
        Its name, for messages.

    Returns
    -------
    archive : Archive
        The tree, and where the arrays lie; every member inside of the buffer.

    Raises
    ------
    FormatError
        If it is damaged, or no record.
    TruncatedFileError
        If its end is missing.
    """
    try:
        members = _directory(buffer, path)
        archive = _record(buffer, path, members)
    except struct.error as error:
        message = f"{path}: the archive is damaged: a part of it lies outside of its {len(buffer)} bytes"
        raise FormatError(message, path=path, field="archive", got=str(error)) from error
    return archive


def _damaged(path: PathLike, field: str, problem: str, got: Any = None) -> FormatError:
    return FormatError(f"{path}: {field}: {problem}", path=path, field=field, got=got)


def _directory(buffer: memoryview, path: PathLike) -> dict[str, _Entry]:
    """Read the directory and the local header of each member."""
    position, n_members, limit = _find_directory(buffer, path)
    start = position
    members: dict[str, _Entry] = {}
    while position < limit:
        (sign, _, _, flags, method, _, _, crc32, packed, size, n_name, n_extra, n_comment, disk, _, _, local) = (
            _ENTRY.unpack_from(buffer, position)
        )
        if sign != _ENTRY_SIGN:
            raise _damaged(path, "directory", f"no entry at offset {position}", sign)
        position += _ENTRY.size
        raw = bytes(buffer[position : position + n_name])
        position += n_name
        if LARGE in (packed, size, local):
            extra = bytes(buffer[position : position + n_extra])
            size, packed, local = _large(path, extra, size, packed, local)
        position += n_extra + n_comment
        name = raw.decode("ascii", "backslashreplace")
        if method or flags & ~_UTF8 or packed != size:
            problem = "it is compressed or encrypted, which records are not; numpy.load may read it"
            raise _damaged(path, name, problem, method)
        if name in members:
            raise _damaged(path, name, "there are two members of this name", name)
        if disk or local > start:
            raise _damaged(path, name, f"its offset {local} lies outside of the members", local)
        offset = local + _local_end(buffer, path, name, raw, local)
        if offset + size > start:
            problem = f"its {size} bytes at offset {offset} lie outside of the members, which end at {start}"
            raise _damaged(path, name, problem, size)
        members[name] = _Entry(offset, size, crc32)
    if position != limit or len(members) != n_members:
        problem = f"{len(members)} members in {position - start} bytes, the end says {n_members} in {limit - start}"
        raise _damaged(path, "directory", problem, len(members))
    return members


def _find_directory(buffer: memoryview, path: PathLike) -> tuple[int, int, int]:
    """Read the end: where the directory begins, how many entries it has, where it ends."""
    at = len(buffer) - _END.size
    if at < 0 or buffer[at : at + 4] != _END_SIGN:
        if len(buffer) == 0 or buffer[:4] == _LOCAL_SIGN[: len(buffer)]:
            message = f"{path}: the end of the archive is missing from its {len(buffer)} bytes; it is truncated"
            raise TruncatedFileError(message, path=path, offset=0, done=len(buffer), field="end")
        raise _damaged(path, "end", "no archive: there is no end record in its last bytes", bytes(buffer[:4]))
    _, disk, first, here, n_members, size, start, n_comment = _END.unpack_from(buffer, at)
    limit = at
    if MOST_MEMBERS in (here, n_members) or LARGE in (size, start):
        locator = at - _LOCATOR.size
        if locator < 0 or buffer[locator : locator + 4] != _LOCATOR_SIGN:
            raise _damaged(path, "end", "the locator of the 64-bit end is missing", None)
        _, _, limit, _ = _LOCATOR.unpack_from(buffer, locator)
        if limit != locator - _END_64.size or buffer[limit : limit + 4] != _END_64_SIGN:
            raise _damaged(path, "end", f"there is no 64-bit end at offset {limit}", limit)
        _, _, _, _, disk, first, here, n_members, size, start = _END_64.unpack_from(buffer, limit)
    if disk or first or here != n_members or n_comment or start + size != limit:
        problem = f"a directory of {size} bytes at offset {start} does not end where it should, at {limit}"
        raise _damaged(path, "end", problem, start)
    return start, n_members, limit


def _large(path: PathLike, extra: bytes, *short: int) -> list[int]:
    """Return the numbers of an entry, those that have only 32 bits taken from its extra field."""
    position = 0
    while position + 4 <= len(extra):
        kind, n = _PAIR.unpack_from(extra, position)
        if kind == _ZIP64_EXTRA:
            content = extra[position + 4 : position + 4 + n]
            numbers = iter(struct.unpack(f"<{len(content) // 8}Q", content[: len(content) // 8 * 8]))
            try:
                return [next(numbers) if number == LARGE else number for number in short]
            except StopIteration:
                break
        position += 4 + n
    raise _damaged(path, "directory", "an entry lacks its 64-bit numbers", None)


def _local_end(buffer: memoryview, path: PathLike, name: str, raw: bytes, local: int) -> int:
    """Return the bytes of a local header."""
    sign, _, flags, method, _, _, _, _, _, n_name, n_extra = _LOCAL.unpack_from(buffer, local)
    begin = local + _LOCAL.size
    if sign != _LOCAL_SIGN or method or flags & ~_UTF8 or buffer[begin : begin + n_name] != raw:
        raise _damaged(path, name, f"there is no such member at offset {local}", local)
    return int(_LOCAL.size + n_name + n_extra)


def _record(buffer: memoryview, path: PathLike, members: dict[str, _Entry]) -> Archive:
    """Read the tree and find the arrays."""
    tree = members.get(TREE)
    if tree is None:
        problem = "there is none, so this is no record; numpy.load reads plain .npz files"
        raise _damaged(path, TREE, problem, sorted(members)[:5])
    text = bytes(buffer[tree.offset : tree.offset + tree.size])
    if zlib.crc32(text) != tree.crc32:
        raise _damaged(path, TREE, "its checksum is wrong: the file is damaged", zlib.crc32(text))
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, TREE, f"not valid JSON: {error}", str(error)) from error
    if type(content) is not dict or content.get("format") != FORMAT:
        raise _damaged(path, TREE, f"the format is not {FORMAT!r}, so this is no record", None)
    version = content.get("version")
    if version != VERSION:
        problem = f"version {version!r} of the format; this megalith reads version {VERSION}, a later one may read it"
        raise _damaged(path, TREE, problem, version)
    checksums = content.get("xxh3")
    if type(checksums) is not list or "value" not in content:
        raise _damaged(path, TREE, "it lacks 'xxh3' or 'value'", sorted(content))
    found = []
    for i, checksum in enumerate(checksums):
        entry = members.get(member_name(i))
        if entry is None:
            raise _damaged(path, member_name(i), "the member is missing", None)
        if type(checksum) is not str or not _CHECKSUM.fullmatch(checksum):
            raise _damaged(path, TREE, f"the checksum of {member_name(i)} is {checksum!r}", checksum)
        found.append((entry.offset, entry.size))
    return Archive(content["value"], found, checksums, content.get("about"))
