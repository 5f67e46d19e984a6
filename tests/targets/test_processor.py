"""Which instructions decide whether int8 is right here."""

from __future__ import annotations

import pytest

from edgevit.targets import processor


@pytest.mark.parametrize(
    ("present", "best", "exact"),
    [
        (("avx2", "fma"), "avx2", False),
        (("avx2", "avx_vnni"), "avx_vnni", True),
        (("avx2", "avx512f"), "avx512f", False),
        (("avx2", "avx512f", "avx512_vnni", "amx_int8"), "amx_int8", True),
        (("asimd", "asimddp"), "asimddp", True),
        (("asimd",), "asimd", False),
    ],
)
def test_the_widest_and_whether_products_add_up_in_32_bits(present, best, exact):
    assert processor.best_instruction_set(present) == best
    assert processor.multiplies_int8_exactly(present) is exact


def test_flags_are_read_from_the_system(tmp_path, monkeypatch):
    cpuinfo = tmp_path / "cpuinfo"
    monkeypatch.setattr(processor, "Path", lambda path: cpuinfo)
    cpuinfo.write_text("processor\t: 0\nflags\t\t: fpu avx512_vnni avx2 sse2\nbugs\t\t: none\n")
    assert processor.instruction_sets() == ("avx2", "avx512_vnni")
    cpuinfo.write_text("processor\t: 0\nFeatures\t: fp asimd asimddp\n")
    assert processor.instruction_sets() == ("asimd", "asimddp")
    cpuinfo.write_text("nothing of use\n")
    assert processor.instruction_sets() == ()


def test_where_nothing_is_told_nothing_is_claimed(tmp_path, monkeypatch):
    monkeypatch.setattr(processor, "Path", lambda path: tmp_path / "no such file")
    monkeypatch.setattr(processor.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(processor.platform, "machine", lambda: "arm64")
    assert processor.multiplies_int8_exactly(processor.instruction_sets())
    monkeypatch.setattr(processor.platform, "machine", lambda: "x86_64")
    assert processor.instruction_sets() == ()
    assert processor.best_instruction_set(()) == "x86_64"
