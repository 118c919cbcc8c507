"""The rooms import only what docs/design.md lets them, and light things stay light."""

import ast
import subprocess
import sys
from pathlib import Path

import discern

SOURCE = Path(discern.__file__).parent

# room -> rooms it may import; the table in docs/design.md. errors, files, progress and stopping are open to all.
MAY_IMPORT = {
    "data": set(),
    "models": set(),
    "runs": {"data"},
    "training": {"data", "models", "runs"},
    "evaluation": {"runs", "data"},
    "explanation": {"models", "runs", "data"},
    "deploy": {"models", "runs", "data"},
    "report": {"evaluation", "explanation", "runs", "data"},
    "steps": {"data", "models", "runs", "training", "evaluation", "explanation", "deploy", "report"},
    "cli": {"data", "models", "runs", "training", "evaluation", "explanation", "deploy", "report", "steps"},
}
OPEN = {"errors", "files", "progress", "stopping"}


def imports(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        found |= {name.split(".")[1] for name in names if name.startswith("discern.")}
    return found


def test_every_room_imports_only_what_it_may():
    wrong = []
    for file in SOURCE.rglob("*.py"):
        parts = file.relative_to(SOURCE).parts
        if len(parts) == 1:
            continue
        strange = imports(file) - MAY_IMPORT[parts[0]] - OPEN - {parts[0]}
        wrong += [f"{'/'.join(parts)} imports {room}" for room in sorted(strange)]
    assert not wrong


def test_open_modules_import_no_room():
    for name in OPEN:
        assert imports(SOURCE / f"{name}.py") <= OPEN


def test_no_module_is_a_drawer():
    names = {file.stem for file in SOURCE.rglob("*.py")}
    assert not names & {"utils", "helpers", "common", "base", "misc"}


def test_importing_the_command_line_loads_no_heavy_package():
    code = "import sys, discern, discern.cli.main; print(*sorted(set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "numpy", "polars", "rich", "pydantic", "cv2", "PIL", "accelerate"} & set(loaded)


def test_help_of_the_command_line_loads_no_heavy_package():
    code = (
        "import sys, discern.cli.main as m\n"
        "try: m.main(['--help'])\n"
        "except SystemExit: print('LOADED', 'torch' in sys.modules, 'numpy' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "LOADED False False" in shown
