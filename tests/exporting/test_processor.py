"""What is said of the processor."""

import platform
from pathlib import Path
from typing import Any

import pytest

from app.artefacts import processor

X86 = "processor\t: 0\nmodel name\t: A CPU @ 2 GHz\nflags\t\t: sse2 avx2 amx_int8 avx512_vnni\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp i8mm\nCPU part\t: 0xd40\n"


@pytest.mark.parametrize(
    ("content", "right"),
    [
        (
            X86 + X86.replace("A CPU", "Another"),
            {"name": "A CPU @ 2 GHz", "integers": ["avx2", "avx512_vnni", "amx_int8"]},
        ),
        (ARM, {"name": "arch", "integers": ["dotprod", "i8mm"]}),
        (X86.replace("avx", "no_avx").replace("amx_", ""), {"name": "A CPU @ 2 GHz", "integers": []}),
        (None, {"name": "arch", "integers": None}),
    ],
    ids=["x86", "arm", "without", "not Linux"],
)
def test_the_processor_is_named_with_its_instructions_for_integers(
    content: str | None, right: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "cpuinfo"
    if content is not None:
        file.write_text(content)
    monkeypatch.setattr(processor, "CPUINFO", file)
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "arch")
    assert processor.processor() == right
