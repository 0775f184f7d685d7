"""Files that lie, end early, may not be read, or have no room; writers that are killed."""

import errno
import os
import struct

import numpy as np
import pytest

import megalith
from megalith.exceptions import FileReadError, FormatError, MegalithError
from megalith.testing.faults import kill_when, run_python, tmpfs_command

READERS = {
    "where": megalith.where,
    "block_sums": megalith.block_sums,
    "correlate1d": lambda path: megalith.correlate1d(path, [1.0, 2.0]),
    "read": megalith.read,
    "read slice": lambda path: megalith.read(path, slicing=slice(0, 2)),
}


@pytest.fixture
def npy(tmp_path):
    """A good file of 1000 doubles."""
    np.save(tmp_path / "in.npy", np.arange(1000.0))
    return tmp_path / "in.npy"


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@pytest.mark.parametrize("kept", [8127, 4000, 129, 128])
def test_a_truncated_file_is_an_error_that_names_it(npy, reader, kept):
    os.truncate(npy, kept)
    with pytest.raises((FileReadError, FormatError), match=r"in\.npy"):
        reader(npy)


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@pytest.mark.parametrize("kept", [0, 1, 5, 7, 9, 60, 127])
def test_a_file_that_ends_within_its_header_is_a_format_error(npy, reader, kept):
    os.truncate(npy, kept)
    with pytest.raises(FormatError, match=r"in\.npy"):
        reader(npy)


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@pytest.mark.parametrize(
    "shape", ["(1001,)", "(10**12,)", "(2**62, 4)", "(2**63,)", "(2**70,)", "(-1,)", "(-1, -1000)", "(1000.0,)", "7"]
)
def test_a_header_that_lies_about_the_shape_is_an_error(npy, reader, shape):
    data = npy.read_bytes()[128:]
    shape = eval(shape) if "**" in shape else shape
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    npy.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + data)
    with pytest.raises((FileReadError, FormatError), match=r"in\.npy"):
        reader(npy)


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"not an array at all, only text in a file that is named like one",
        b"PK\x03\x04" + bytes(200),
        b"\x93NUMPY\x09\x00\x76\x00" + bytes(200),
        b"\x93NUMPY\x01\x00\xff\xff" + b"{" * 70000,
        b"\x93NUMPY\x01\x00\x10\x00__import__('os')" + bytes(99),
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(99),
    ],
    ids=["empty", "text", "zip", "version", "braces", "code", "length"],
)
def test_a_file_that_is_no_npy_is_a_format_error(npy, start):
    npy.write_bytes(start)
    with pytest.raises(FormatError, match=r"in\.npy"):
        megalith.where(npy)


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_a_missing_file_stays_file_not_found(tmp_path, reader):
    with pytest.raises(FileNotFoundError, match=r"nothing\.npy"):
        reader(tmp_path / "nothing.npy")


def test_a_directory_is_an_os_error(tmp_path):
    with pytest.raises(OSError, match=tmp_path.name):
        megalith.where(tmp_path)


def test_a_sink_in_a_missing_directory_stays_file_not_found(tmp_path):
    with pytest.raises(FileNotFoundError):
        megalith.where(np.ones(3), tmp_path / "nothing" / "a.npy")


def test_a_file_and_a_directory_without_permission_stay_permission_errors(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir()
    np.save(tmp_path / "in.npy", np.ones(3))
    (tmp_path / "in.npy").chmod(0)
    closed.chmod(0o555)
    for parent in (tmp_path, *tmp_path.parents[:3]):
        parent.chmod(parent.stat().st_mode | 0o011)
    code = f"""
    import os
    import numpy as np
    import megalith
    megalith.where(np.ones(3))
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    for call in (
        lambda: megalith.where({str(tmp_path / "in.npy")!r}),
        lambda: megalith.read({str(tmp_path / "in.npy")!r}),
        lambda: megalith.where(np.ones(3), {str(closed / "a.npy")!r}),
        lambda: megalith.write({str(closed / "a.npy")!r}, np.ones(3)),
    ):
        try:
            call()
        except PermissionError as error:
            print(error)
    """
    said = run_python(code, tmp_path / "code").check()
    assert len(said.splitlines()) == 4
    assert said.count("in.npy") == 2


FULL = """
import errno, os, resource, time
import numpy as np
import megalith
mount = {mount!r}

def refused(call):
    try:
        call(mount + "/a.npy")
    except OSError as error:
        assert error.errno == errno.ENOSPC, repr(error)
        assert "a.npy" in str(error) or mount in str(error), str(error)
        assert os.listdir(mount) == [], os.listdir(mount)
        print("refused")
"""
WRITERS = {
    "write": "megalith.write(path, np.ones(1 << 22, dtype=np.uint8))",
    "where": "megalith.where(np.ones(1 << 20, dtype=np.uint8), path)",
    "apply_lut": "megalith.apply_lut(np.ones(1 << 22, dtype=np.uint8), np.arange(9, dtype=np.uint8), path)",
    "correlate1d": "megalith.correlate1d(np.ones(1 << 19), [1.0, 2.0], path)",
    "apply_lut_to_index": (
        "megalith.apply_lut_to_index(np.ones(1 << 22, np.uint8), np.ones(3, int), np.arange(9, dtype=np.uint8), path)"
    ),
    "initialize_sink": "megalith.initialize_sink(path, shape=(1 << 22,), dtype=np.uint8)",
}


@pytest.fixture
def mount(tmp_path):
    """A place to mount on, and the command that does; skipped only where the system lets nobody mount."""
    place = tmp_path / "mount"
    place.mkdir()
    command = tmpfs_command(place, "2m")
    if command is None:
        pytest.skip("this system allows no private mounts (unshare --mount), with or without root")
    return place, command


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_a_sink_without_room_is_an_os_error_that_leaves_no_name(tmp_path, mount, writer):
    code = FULL.format(mount=str(mount[0])) + f"\nrefused(lambda path: {writer})\n"
    assert run_python(code, tmp_path / "code", prefix=mount[1]).check() == "refused\n"


def test_a_sink_without_room_is_refused_before_any_work(tmp_path, mount):
    code = (
        FULL.format(mount=str(mount[0]))
        + """
volume, taps = np.ones((1 << 13, 1 << 12), dtype=np.float32), np.ones(601)
began = time.process_time()
refused(lambda path: megalith.correlate1d(volume, taps, path))
assert time.process_time() - began < 0.5  # the whole of it takes ten
"""
    )
    assert run_python(code, tmp_path / "code", prefix=mount[1]).check() == "refused\n"


def test_a_sink_with_just_enough_room_is_written(tmp_path, mount):
    code = (
        FULL.format(mount=str(mount[0]))
        + """
megalith.write(mount + "/a.npy", np.ones(1 << 20, dtype=np.uint8))
assert os.listdir(mount) == ["a.npy"]
assert np.load(mount + "/a.npy").sum() == 1 << 20
"""
    )
    run_python(code, tmp_path / "code", prefix=mount[1]).check()


def test_replacing_a_file_without_room_for_both_leaves_the_old_one(tmp_path, mount):
    code = (
        FULL.format(mount=str(mount[0]))
        + """
np.save(mount + "/a.npy", np.arange(150_000))
try:
    megalith.write(mount + "/a.npy", np.zeros(200_000))
except OSError as error:
    assert error.errno == errno.ENOSPC
    assert os.listdir(mount) == ["a.npy"]
    assert np.load(mount + "/a.npy")[-1] == 149_999
    print("refused")
"""
    )
    assert run_python(code, tmp_path / "code", prefix=mount[1]).check() == "refused\n"


@pytest.mark.parametrize("delay_s", [0.0, 0.05, 0.3])
def test_a_killed_kernel_leaves_nothing_visible(tmp_path, delay_s):
    out = tmp_path / "out"
    out.mkdir()
    code = f"""
    import numpy as np
    import megalith
    volume, taps = np.ones((1 << 12, 1 << 12), dtype=np.float32), np.ones(2001)
    print("go", flush=True)
    megalith.correlate1d(volume, taps, {str(out / "a.npy")!r})
    """
    child = kill_when(code, tmp_path / "code", "go", delay_s=delay_s)
    assert child.returncode == -9
    assert not (out / "a.npy").exists()
    megalith.write(out / "b.npy", np.ones(3))
    assert [path.name for path in out.iterdir()] == ["b.npy"]


def test_a_writer_killed_again_and_again_leaves_the_old_file_or_the_new_one(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    code = f"""
    import numpy as np
    import megalith
    print("go", flush=True)
    n = 0
    while True:
        n += 1
        megalith.write({str(out / "a.npy")!r}, np.full(1 << 22, n % 100, dtype=np.uint8))
    """
    for i in range(8):
        kill_when(code, tmp_path / "code", "go", delay_s=0.01 * i * i)
        visible = [path for path in out.iterdir() if not path.name.startswith(".")]
        assert [path.name for path in visible] in ([], ["a.npy"])
        for path in visible:
            values = np.load(path)
            assert values.shape == (1 << 22,)
            assert (values == values[0]).all()
    megalith.write(out / "a.npy", np.ones(3))
    assert [path.name for path in out.iterdir()] == ["a.npy"]


def test_a_failing_kernel_leaves_no_file_and_the_old_one_as_it_was(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(3))
    before = (tmp_path / "a.npy").read_bytes()
    with pytest.raises(MegalithError):
        megalith.apply_lut(np.full(1 << 21, 9, dtype=np.uint8), np.zeros(3), tmp_path / "a.npy")
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]
    assert (tmp_path / "a.npy").read_bytes() == before


def test_a_file_that_shrinks_after_it_was_described_is_a_read_error_not_a_crash(tmp_path):
    code = f"""
    import os
    import numpy as np
    import megalith
    path = {str(tmp_path / "a.npy")!r}
    np.save(path, np.ones(1 << 22, dtype=np.uint8))
    source = megalith.initialize_source(path, return_buffer=False)
    os.truncate(path, 4096)
    try:
        megalith.block_counts(source)
    except OSError as error:
        assert "a.npy" in str(error)
        print("read error")
    """
    assert run_python(code, tmp_path / "code").check() == "read error\n"


def test_errors_of_files_carry_path_and_numbers(npy):
    os.truncate(npy, 4128)
    with pytest.raises(FileReadError) as caught:
        megalith.read(npy)
    assert (str(caught.value.path), caught.value.wanted, caught.value.done) == (str(npy), 8000, 4000)


def test_no_space_is_a_file_write_error_with_its_number(tmp_path, mount):
    code = (
        FULL.format(mount=str(mount[0]))
        + """
from megalith.exceptions import FileWriteError
try:
    megalith.write(mount + "/a.npy", np.ones(1 << 22))
except FileWriteError as error:
    print(error.errno)
"""
    )
    assert run_python(code, tmp_path / "code", prefix=mount[1]).check() == f"{errno.ENOSPC}\n"
