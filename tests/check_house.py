"""House rules that no linter knows: run by `make check`.

Files have at most 500 lines, and over 400 say why at the top; packages neither assert nor evaluate; functions take at
most six parameters; where a C compiler exists, the native kernels must have been built.
"""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("connectors", "kernels", "mpc", "party", "pipelines", "psi", "vfl")
FORBIDDEN_CALLS = {"eval", "exec", "compile", "breakpoint"}
NATIVE = ("curve25519", "digest", "ntt")
MOST_PARAMETERS = 6
LONG, LONGEST = 400, 500


def complaints(path: Path) -> list[str]:
    text = path.read_text()
    place = path.relative_to(ROOT)
    lines = text.splitlines()
    found = []
    if len(lines) > LONGEST or (len(lines) > LONG and "lines" not in "\n".join(lines[:12])):
        found.append(f"{place}: {len(lines)} lines; over {LONG} says why at its top, over {LONGEST} is two files")
    if path.suffix != ".py":
        return found
    tree = ast.parse(text)
    if not ast.get_docstring(tree) and text.strip():
        found.append(f"{place}:1: no docstring")
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            found.append(f"{place}:{node.lineno}: assert is for tests; checks raise")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_CALLS:
            found.append(f"{place}:{node.lineno}: {node.func.id}")
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names = [a.arg for a in node.args.args + node.args.kwonlyargs if a.arg not in ("self", "cls")]
            if len(names) > MOST_PARAMETERS and not any("command" in ast.dump(d) for d in node.decorator_list):
                found.append(f"{place}:{node.lineno}: {node.name} takes {len(names)} parameters")
    return found


def main() -> int:
    tracked = subprocess.run(["git", "ls-files", *PACKAGES], cwd=ROOT, capture_output=True, text=True, check=True)
    paths = [ROOT / name for name in tracked.stdout.split() if name.endswith((".py", ".c", ".h"))]
    found = [line for path in paths if path.exists() for line in complaints(path)]
    for kernel in NATIVE if shutil.which("gcc") else ():
        if not list((ROOT / "kernels").glob(f"_{kernel}*.so")):
            found.append(f"kernels/_{kernel}: a C compiler is here, but the native kernel was not built")
    print("\n".join(found) if found else f"the house is in order: {len(paths)} files")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
