"""More than 2^32 elements: right answers in little memory.

The file is sparse: it has no bytes on disk but those that are set.
"""

import pytest
from numpy.lib import format as npy_format

from megalith.testing.faults import run_python

SIZE = 2**32 + 70_001
HITS = [0, 1, 65_535, 65_536, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 1, 2**32, 2**32 + 1, 2**32 + 65_536, SIZE - 1]

MEASURE = """
import threading, time
import numpy as np
import megalith

path = {path!r}
hits = {hits}
peak = 0

def memory():
    '''Anonymous and, for a path, mapped memory of this process in MiB.'''
    fields = dict(line.split(":", 1) for line in open("/proc/self/status"))
    anonymous, mapped = (int(fields[name].split()[0]) / 1024 for name in ("RssAnon", "RssFile"))
    return anonymous + ({with_mapped} and mapped)

def watch():
    global peak
    while True:
        peak = max(peak, memory())
        time.sleep(0.002)

threading.Thread(target=watch, daemon=True).start()
source = {source}
"""
SOURCES = {
    "memmap": "np.load(path, mmap_mode='r')",
    "path": "path",
    "2-d memmap": "np.load(path, mmap_mode='r')[: 2**32 + 2**16].reshape(2**16 + 1, 2**16)[:, ::-1]",
}


@pytest.fixture(scope="module")
def huge(tmp_path_factory):
    """A sparse `.npy` file with ones at `HITS`."""
    path = tmp_path_factory.mktemp("huge") / "huge.npy"
    with path.open("wb") as file:
        npy_format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (SIZE,)})
        start = file.tell()
        file.truncate(start + SIZE)
        for hit in HITS:
            file.seek(start + hit)
            file.write(b"\1")
    yield path
    path.unlink()


def measured(huge, tmp_path, code, *, source="path"):
    """Run code on a source of the huge file; what it prints is its peak of memory."""
    # The pages of a mapping that the caller made are the caller's; those of a file given by path are ours.
    with_mapped = source == "path"
    head = MEASURE.format(path=str(huge), hits=HITS, source=SOURCES[source], with_mapped=with_mapped)
    said = run_python(head + code + "\nprint(peak)\n", tmp_path, timeout_s=110).check()
    return float(said.splitlines()[-1])


@pytest.mark.parametrize("source", ["memmap", "path"])
def test_where_finds_positions_beyond_32_bits_in_bounded_memory(huge, tmp_path, source):
    code = "\ngot = megalith.where(source)\nassert got.tolist() == hits, got\n"
    assert measured(huge, tmp_path, code, source=source) < 1024


@pytest.mark.parametrize("source", ["memmap", "path"])
def test_block_counts_beyond_32_bits_are_right_in_bounded_memory(huge, tmp_path, source):
    code = """
got = megalith.block_counts(source, blocks=1000)
cuts = [i * {size} // 1000 for i in range(1001)]
assert got.tolist() == np.histogram(hits, cuts)[0].tolist()
assert megalith.block_ranges(source, blocks=1000).tolist() == cuts
""".replace("{size}", str(SIZE))
    assert measured(huge, tmp_path, code, source=source) < 1024


def test_apply_lut_into_a_file_beyond_32_bits_is_right_in_bounded_memory(huge, tmp_path):
    code = f"""
got = megalith.apply_lut(source, np.array([0, 7], dtype=np.uint8), {str(tmp_path / "out.npy")!r})
high = peak
assert got.shape == ({SIZE},)
assert all(got[hit] == 7 for hit in hits)
step = 1 << 26
assert sum(int(np.count_nonzero(got[i : i + step])) for i in range(0, len(got), step)) == len(hits)
peak = high
"""
    try:
        # The pages of the result are mapped, and may all be resident: less than 1 GB beyond it.
        assert measured(huge, tmp_path, code) < 1024 + SIZE / 2**20
    finally:
        (tmp_path / "out.npy").unlink(missing_ok=True)


def test_where_of_two_axes_beyond_32_bits_is_right(huge, tmp_path):
    code = """
got = megalith.where(source, dtype=np.uint32)
width = source.shape[1]
flat = sorted(int(i) * width + width - 1 - int(j) for i, j in got)
assert flat == hits[:-2], flat
"""
    measured(huge, tmp_path, code, source="2-d memmap")
