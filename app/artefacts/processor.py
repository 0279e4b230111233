"""The processor that figures were measured on: integers lose speed, and may lose accuracy, where instructions lack."""

import platform
from pathlib import Path
from typing import Any

# What multiplies integers of 8 bits, as Linux names it and as people do; the last two are of Arm.
INTEGERS = {
    "avx2": "avx2",
    "avx_vnni": "avx_vnni",
    "avx512_vnni": "avx512_vnni",
    "amx_int8": "amx_int8",
    "asimddp": "dotprod",
    "i8mm": "i8mm",
}
CPUINFO = Path("/proc/cpuinfo")


def processor() -> dict[str, Any]:
    """`name`, as it calls itself, or its architecture where it has no name; `integers`, which instructions of INTEGERS
    it has, None where the machine does not say."""
    said: dict[str, str] = {}
    try:
        lines = CPUINFO.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        said.setdefault(key.strip(), value.strip())  # of several cores the first
    flags = said.get("flags", said.get("Features"))
    return {
        "name": said.get("model name") or platform.processor() or platform.machine(),
        "integers": None if flags is None else [name for flag, name in INTEGERS.items() if flag in flags.split()],
    }
