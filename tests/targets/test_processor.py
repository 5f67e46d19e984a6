"""Which instructions decide whether int8 is right here."""

from __future__ import annotations

import pytest

from edgevit.targets import processor
from edgevit.targets.processor import parse_cpuinfo, parse_sysctl

X86 = """processor\t: 0
model name\t: Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz
flags\t\t: fpu sse2 fma avx2 f16c avx512f avx512_bf16 avx512_vnni amx_int8 amx_bf16 avx_vnni
"""
ARM = "processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd asimddp sve i8mm bf16\nCPU implementer\t: 0x41\n"
MACOS_ARM = "hw.memsize: 17179869184\nmachdep.cpu.brand_string: Apple M2\nhw.optional.arm.FEAT_DotProd: 1\n"
MACOS_ARM += "hw.optional.arm.FEAT_BF16: 1\nhw.optional.arm.FEAT_I8MM: 0\nhw.optional.neon: 1\n"
MACOS_INTEL = "machdep.cpu.brand_string: Intel(R) Core(TM) i7\nmachdep.cpu.features: FPU FMA F16C SSE4.2\n"
MACOS_INTEL += "machdep.cpu.leaf7_features: BMI1 AVX2 AVX512F AVX512VNNI\n"


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


def test_cpuinfo_of_x86_gives_the_name_and_the_flags_that_matter() -> None:
    name, flags = parse_cpuinfo(X86)
    assert name == "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz"
    assert flags == (
        "avx2",
        "fma",
        "f16c",
        "avx512f",
        "avx512_vnni",
        "avx_vnni",
        "avx512_bf16",
        "amx_int8",
        "amx_bf16",
    )


def test_cpuinfo_of_arm_has_features_and_no_name() -> None:
    assert parse_cpuinfo(ARM) == ("", ("asimd", "asimddp", "i8mm", "bf16", "sve"))


def test_sysctl_of_both_kinds_of_mac() -> None:
    assert parse_sysctl(MACOS_ARM) == ("Apple M2", ("asimd", "asimddp", "bf16"))
    assert parse_sysctl(MACOS_INTEL) == ("Intel(R) Core(TM) i7", ("avx2", "fma", "f16c", "avx512f", "avx512_vnni"))


def test_a_set_that_one_core_lacks_does_not_count():
    assert processor.parse_cpuinfo(X86 + "\nprocessor\t: 1\nflags\t\t: fpu fma avx2\n")[1] == ("avx2", "fma")
    assert processor.parse_cpuinfo("nothing of use\n") == ("", ())


def test_this_processor_is_read_from_the_system(tmp_path, monkeypatch):
    monkeypatch.setattr(processor.sys, "platform", "linux")
    monkeypatch.setattr(processor, "_ROOT", tmp_path)
    assert processor.read_processor() == ("", ())
    (tmp_path / "proc" / "device-tree").mkdir(parents=True)
    (tmp_path / "proc" / "cpuinfo").write_text(ARM)
    (tmp_path / "proc" / "device-tree" / "model").write_text("Raspberry Pi 5\0")
    assert processor.read_processor() == ("Raspberry Pi 5", ("asimd", "asimddp", "i8mm", "bf16", "sve"))


def test_a_mac_that_tells_nothing_has_what_all_of_its_kind_have(monkeypatch):
    monkeypatch.setattr(processor.sys, "platform", "darwin")
    monkeypatch.setattr(processor, "command_output", lambda *command: "")
    monkeypatch.setattr(processor.platform, "machine", lambda: "arm64")
    assert processor.multiplies_int8_exactly(processor.read_processor()[1])
    monkeypatch.setattr(processor.platform, "machine", lambda: "x86_64")
    assert processor.read_processor() == ("", ())
    assert processor.best_instruction_set(()) == "x86_64"
