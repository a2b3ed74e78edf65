"""The program as it is built: what the compiler and the linker were to harden (T39)."""
import os
import platform
import re
import subprocess

import pytest

from harness import BUILD, TUNN

pytestmark = pytest.mark.skipif(os.path.basename(BUILD) != "release", reason="only what ships is hardened")


def readelf(*words):
    return subprocess.run(["readelf", "-W", *words, TUNN], check=True, capture_output=True, text=True).stdout


def segments():
    """Type and flags of each program header."""
    return re.findall(r"^  (\w+) +0x\w+ 0x\w+ 0x\w+ 0x\w+ 0x\w+ ([RWE ]{3}) ", readelf("-l"), re.M)


def imported():
    return set(re.findall(r" (\w+)@", readelf("--dyn-syms")))


def test_T39_code_is_position_independent_and_no_segment_can_be_written_and_run():
    assert re.search(r"Type: +DYN", readelf("-h"))
    assert re.search(r"FLAGS_1.* PIE", readelf("-d"))
    found = segments()
    assert len([1 for kind, _ in found if kind == "LOAD"]) >= 3
    assert not [s for s in found if "W" in s[1] and "E" in s[1]]
    assert [flags for kind, flags in found if kind == "GNU_STACK"] == ["RW "]
    assert "TEXTREL" not in readelf("-d")


def test_T39_relocations_are_read_only_after_start():
    assert "GNU_RELRO" in [kind for kind, _ in segments()]
    assert re.search(r"FLAGS.* BIND_NOW|FLAGS_1.* NOW", readelf("-d"))


def test_T39_stack_protector_and_fortified_functions_are_in():
    names = imported()
    assert "__stack_chk_fail" in names
    assert {"__memcpy_chk", "__snprintf_chk", "__vsnprintf_chk"} & names


@pytest.mark.skipif(platform.machine() != "x86_64", reason="control-flow enforcement is x86's")
def test_T39_indirect_branches_and_returns_are_marked_for_enforcement():
    """Of our own objects: the linker drops the mark of the whole when one of the C library's start files lacks it."""
    objects = [os.path.join(d, f) for d, _, files in os.walk(f"{BUILD}/common") for f in files if f.endswith(".o")]
    assert len(objects) > 20
    for path in objects:
        out = subprocess.run(["readelf", "-nW", path], check=True, capture_output=True, text=True).stdout
        assert "IBT" in out and "SHSTK" in out, path
