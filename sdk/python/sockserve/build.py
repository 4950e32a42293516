"""`python -m sockserve build APP.py`: from a Python file to a component.

It imports the file to see what it serves, finds the contracts, and calls componentize-py.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from . import serving

PACKAGE = Path(__file__).resolve().parent

#: Where the contracts are: in the package, or in a project that `sockserve new` has made, beside the
#: package or with the package installed elsewhere.
CONTRACTS = [PACKAGE / "wit", PACKAGE.parents[1] / "wit", Path(".sockserve", "wit")]


#: No module of a program is likely to have this name.
WORLD = "service-of-this-component"


class Refusal(Exception):
    """What was wrong, where, and what would work, in one line."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m sockserve", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    builder = commands.add_parser("build", help="make a component of a Python file")
    builder.add_argument("app", type=Path, metavar="APP.py", help="the file that calls serve()")
    builder.add_argument("-o", "--output", type=Path, help="the component (default: APP.wasm)")
    builder.add_argument(
        "-p",
        "--python-path",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="where the program imports other modules from; its own folder is searched always",
    )
    options = parser.parse_args(arguments)
    try:
        build(options.app, options.output or Path(options.app.stem + ".wasm"), options.python_path)
    except Refusal as refusal:
        print(f"error: {refusal}", file=sys.stderr)
        return 1
    return 0


def build(app: Path, output: Path, python_path: list[Path]) -> None:
    if app.suffix != ".py" or not app.stem.isidentifier():
        raise Refusal(f"{app}: expected the path of a Python module, such as app.py")
    if not app.is_file():
        raise Refusal(f"{app}: there is no such file")
    folders = [app.resolve().parent, *(folder.resolve() for folder in python_path)]
    service = inspect(app, folders)
    with tempfile.TemporaryDirectory() as scratch:
        # Alone, because componentize-py takes everything that is in a folder.
        ignored = shutil.ignore_patterns("__pycache__", "wit")
        shutil.copytree(PACKAGE, Path(scratch, "sockserve"), ignore=ignored)
        wit = Path(scratch, "wit")
        shutil.copytree(contracts(), wit)
        (wit / "service.wit").write_text(world_of(service))
        command = [componentize(), "--quiet", "--wit-path", str(wit), "--world", WORLD]
        command += ["componentize", app.stem, "--output", str(output)]
        for folder in [*folders, Path(scratch)]:
            command += ["--python-path", str(folder)]
        # Nothing is left beside the program.
        environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
        if subprocess.run(command, env=environment).returncode != 0:
            raise Refusal(f"{app}: componentize-py has failed")
    size = output.stat().st_size / 1e6
    print(f"{output}: {service.contract}, {size:.1f} MB")


def world_of(service: serving.Service) -> str:
    """One world of all, because componentize-py 0.25.1 panics at some that it has to merge."""
    included = "".join(f"    include {world};\n" for world in service.worlds)
    return f"package sockserve:handler@0.1.0;\n\nworld {WORLD} {{\n{included}}}\n"


def inspect(app: Path, folders: list[Path]) -> serving.Service:
    """What the file serves."""
    sys.path[:0] = map(str, folders)
    sys.dont_write_bytecode = True
    serving.declared = None
    try:
        importlib.import_module(app.stem)
    except serving.CannotServe as error:
        raise Refusal(f"{app}: {error}") from None
    if serving.declared is None:
        raise Refusal(f"{app}: it serves nothing; end it with sockserve.serve(HANDLER)")
    return serving.declared


def contracts() -> Path:
    for folder in CONTRACTS:
        if (folder / "package.wit").is_file():
            return folder
    raise Refusal(f"{CONTRACTS[0]}: the contracts are not there; install the package again")


def componentize() -> str:
    # With an interpreter of a virtual environment that is not activated, it is beside it.
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = shutil.which("componentize-py", path=places)
    if found is None:
        raise Refusal("componentize-py is not installed; pip install componentize-py==0.25.1")
    return found
