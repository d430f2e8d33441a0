"""Compiles every Triton kernel that the SPECs declare, for GPUs that need not be here, and prints what each takes, as JSON.

Run as a program without TRITON_INTERPRET: whether kernels are compiled or interpreted is settled when they are defined.
"""

import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from gancore.kernels._spec import Ahead, specs

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"


def usage(compiled: Any) -> dict[str, int]:
    """Registers a thread, shared bytes and spilled registers or bytes of local memory."""
    if "amdgcn" in compiled.asm:
        text = compiled.asm["amdgcn"]
        value = {n: int(re.search(rf"\.{n}:\s+(\d+)", text)[1]) for n in ("vgpr_count", "vgpr_spill_count", "sgpr_spill_count")}
        spills = value["vgpr_spill_count"] + value["sgpr_spill_count"]
        return {"registers": value["vgpr_count"], "shared": compiled.metadata.shared, "spills": spills}
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        text = subprocess.run([CUOBJDUMP, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True).stdout
    value = {n: int(re.search(rf"{n}:(\d+)", text)[1]) for n in ("REG", "STACK", "LOCAL")}
    return {"registers": value["REG"], "shared": compiled.metadata.shared, "spills": value["STACK"] + value["LOCAL"]}


def compile_for(name: str, ahead: Ahead) -> dict[str, Any]:
    names = ahead.kernel.arg_names
    signature = {n: ahead.signature.get(n, "constexpr").removesuffix(":16") for n in names}
    # Pointers come from PyTorch's allocator, which aligns them; of numbers those are marked that are multiples of 16.
    multiples = [n for n, t in ahead.signature.items() if t.startswith("*") or t.endswith(":16")]
    aligned = {(names.index(n),): [["tt.divisibility", 16]] for n in multiples}
    constants = {**ahead.constants, **ahead.instead.get(name, {})}
    source = ASTSource(fn=ahead.kernel, signature=signature, constexprs=constants, attrs=aligned)
    compiled = triton.compile(source, target=TARGETS[name], options={"num_warps": ahead.warps, "num_stages": ahead.stages})
    missing = ahead.tensor_core if name == "sm_90" and ahead.tensor_core not in compiled.asm["ptx"] else ""
    return {**usage(compiled), "missing": missing}


def main() -> None:
    rows = [
        {"op": spec.name, "kernel": i, "constants": str(dict(ahead.constants)), "target": name, **compile_for(name, ahead),
         "budget": {"registers": ahead.registers, "shared": ahead.shared}}
        for spec in specs().values()
        for i, ahead in enumerate(spec.ahead())
        for name in TARGETS
    ]  # fmt: skip
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
