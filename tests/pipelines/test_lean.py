"""What a process loads: a worker little before it knows its peer, a query nothing of training, none of them pandas."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from pipelines.lean import load_meanwhile

ROOT = Path(__file__).resolve().parents[2]


def loaded_by(module: str) -> set[str]:
    """The top-level packages that a fresh process has after this import."""
    code = (
        f"import json, sys\nfrom pipelines.lean import refuse_pandas\nrefuse_pandas()\nimport {module}\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        timeout=60, check=True,
    )  # fmt: skip
    return set(json.loads(done.stdout))


def test_a_worker_loads_no_protocol_before_it_knows_its_peer() -> None:
    found = loaded_by("pipelines.worker")
    assert {"party", "connectors", "cryptography"} <= found
    assert not found & {"mpc", "psi", "vfl", "kernels", "duckdb", "sqlglot", "pandas", "prefect"}


def test_a_run_without_training_loads_no_training() -> None:
    found = loaded_by("pipelines.execute")
    assert {"mpc", "psi"} <= found
    assert not found & {"vfl", "pandas", "prefect", "phonenumbers"}


def test_modules_are_loaded_while_the_caller_goes_on() -> None:
    sys.modules.pop("this_is_no_module", None)
    sys.modules.pop("wave", None)
    load_meanwhile("this_is_no_module", "wave").join(30)  # an error is left to whoever needs the module
    assert "wave" in sys.modules
    assert "this_is_no_module" not in sys.modules
