"""The house stands as it is drawn: floors, rooms, sizes, annotations, and nothing that belongs elsewhere."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Final, NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "frugal_meter"

#: each room and the floor it is on; imports run down. A room is a folder of the package, or a module beside the folders
FLOORS: Final = {
    **dict.fromkeys(("errors", "links", "records", "routes", "tables", "trees", "units"), 0),
    "sources": 1,
    **dict.fromkeys(("carbon", "ring"), 2),
    "attribution": 3,
    **dict.fromkeys(("budgets", "calibration", "figures", "periods", "queueing", "refusal", "usage"), 4),
    **dict.fromkeys(("config", "degrading", "dialects", "exporters", "journal", "measure", "remote", "setup"), 5),
    **dict.fromkeys(("agent", "clauses", "declaration", "desk", "rate_limit", "refusal_page"), 6),
    **dict.fromkeys(("harvest", "ticking"), 7),
    "meter": 8,
    **dict.fromkeys(("components", "refusing", "rewriting", "telling"), 9),
    "streams": 10,
    **dict.fromkeys(("middleware", "testing"), 11),
    "loading": 12,
    "study": 13,
    **dict.fromkeys(("cli", "__init__"), 14),
}
BIGGEST_ROOM = 0.25
MODULE_LINES, FUNCTION_LINES = 420, 60
#: what is longer, up to where, and why
LONG: Final = {
    "study/recompute.py": (800, "an auditor's script, alone in a study's folder: it can import nothing of ours"),
    "study/report_texts.py": (560, "every sentence of the report in both languages, side by side: a table, not logic"),
    "cli/texts.py": (450, "every sentence of the commands in both languages, side by side: a table, not logic"),
    "meter.py": (475, "the composition and the face: every setting, every part and every method that applications call"),
    "measure.py": (545, "one lifecycle and its five drivers, each the shape of the others: apart they would drift"),
    "budgets/admission.py": (500, "one decision from the door to its settlement: what is counted, noted and charged must agree"),
    "attribution/ledger.py": (595, "one tick's books: splitting them would part the sum from its parts"),
    "meter.py:Meter.__init__": (115, "every setting is a named parameter and every part is made here, in one reading"),
}


class Module(NamedTuple):
    """A module of the package: its path below it, its name as parts, and its tree."""

    path: str
    parts: tuple[str, ...]
    text: str
    tree: ast.Module

    @property
    def room(self) -> str:
        """The folder it is in, or itself; the face is "__init__"."""
        return self.parts[0] if self.parts else "__init__"

    @property
    def lines(self) -> int:
        """Lines of the file."""
        return len(self.text.splitlines())


class Import(NamedTuple):
    """An import inside the package: who, whom (as parts), on which line, and whether it runs when the module is imported."""

    module: Module
    target: tuple[str, ...]
    line: int
    at_import: bool


@cache
def modules() -> tuple[Module, ...]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE)
        text = path.read_text(encoding="utf-8")
        parts = name.with_suffix("").parts
        found.append(Module(str(name), parts[:-1] if name.name == "__init__.py" else parts, text, ast.parse(text)))
    return tuple(found)


def imports_of(module: Module) -> Iterator[Import]:
    """Every import of the package's own, those inside functions too, but not those for type checkers only."""
    package = module.parts if module.path.endswith("__init__.py") else module.parts[:-1]
    known = {each.parts for each in modules()}

    def walk(node: ast.AST, at_import: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.ImportFrom):
                for target in targets(child):
                    yield Import(module, target, child.lineno, at_import)
            elif isinstance(child, ast.Import):
                own = [alias.name.split(".")[1:] for alias in child.names if alias.name.split(".")[0] == "frugal_meter"]
                yield from (Import(module, tuple(parts), child.lineno, at_import) for parts in own)
            function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from walk(child, at_import and not function)

    def targets(node: ast.ImportFrom) -> Iterator[tuple[str, ...]]:
        if node.level:
            base = package[: len(package) - node.level + 1] + tuple((node.module or "").split(".") if node.module else ())
        elif (node.module or "").split(".")[0] == "frugal_meter":
            base = tuple((node.module or "").split(".")[1:])
        else:
            return
        for alias in node.names:
            yield (*base, alias.name) if (*base, alias.name) in known else base

    yield from walk(module.tree, True)


def room_of(target: tuple[str, ...]) -> str:
    return target[0] if target else "__init__"


def test_every_room_has_its_floor_and_every_floor_its_rooms() -> None:
    assert {module.room for module in modules()} == FLOORS.keys()


def test_imports_run_down_the_floors() -> None:
    """Within a floor only the ground's small modules may know each other."""
    up = []
    for module in modules():
        for each in imports_of(module):
            here, there = FLOORS[module.room], FLOORS[room_of(each.target)]
            if module.room != room_of(each.target) and there >= here and not here == there == 0:
                up.append(f"{module.path}:{each.line} imports {'.'.join(each.target) or 'the face'}")
    assert up == []


def test_the_roof_is_reached_through_the_face_alone_and_only_by_name() -> None:
    """The face looks its names up when they are asked for; what it imports at once is on the ground."""
    (face,) = (module for module in modules() if module.room == "__init__")
    assert {FLOORS[room_of(each.target)] for each in imports_of(face)} == {0}


def test_rooms_and_modules_are_in_no_circle() -> None:
    rooms: dict[str, set[str]] = {room: set() for room in FLOORS}
    graph: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for module in modules():
        for each in imports_of(module):
            if module.room != room_of(each.target):
                rooms[module.room].add(room_of(each.target))
            if each.at_import and each.target != module.parts:
                graph.setdefault(module.parts, set()).add(each.target)
    # A circle is a CycleError that names who is in it.
    TopologicalSorter(rooms).prepare()
    TopologicalSorter(graph).prepare()


def test_no_room_holds_more_than_a_quarter_of_the_code() -> None:
    sizes: dict[str, int] = {}
    for module in modules():
        sizes[module.room] = sizes.get(module.room, 0) + module.lines
    biggest = max(sizes, key=sizes.__getitem__)
    assert sizes[biggest] <= BIGGEST_ROOM * sum(sizes.values()), biggest


def test_modules_and_functions_are_short_or_say_why_not() -> None:
    found = {module.path: module.lines for module in modules() if module.lines > MODULE_LINES}
    for module in modules():
        for name, function in functions(module):
            if (lines := (function.end_lineno or function.lineno) - function.lineno + 1) > FUNCTION_LINES:
                found[f"{module.path}:{name}"] = lines
    assert found.keys() == LONG.keys()
    assert [name for name, lines in found.items() if lines > LONG[name][0]] == []


Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(module: Module) -> Iterator[tuple[str, Function]]:
    """Functions of the module and methods of its classes, with their qualified names; not those nested in others."""
    for node in module.tree.body:
        if isinstance(node, Function):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from ((f"{node.name}.{each.name}", each) for each in node.body if isinstance(each, Function))


def test_every_function_is_annotated_in_full() -> None:
    bare = []
    for module in modules():
        for node in ast.walk(module.tree):
            if not isinstance(node, Function):
                continue
            given = node.args
            named = [*given.posonlyargs, *given.args, *given.kwonlyargs, *filter(None, (given.vararg, given.kwarg))]
            wanting = [each.arg for each in named if each.annotation is None and each.arg not in ("self", "cls")]
            if wanting or node.returns is None:
                bare.append(f"{module.path}:{node.lineno} {node.name} {wanting}")
    assert bare == []


def test_what_is_public_says_what_it_is() -> None:
    silent = [module.path for module in modules() if not ast.get_docstring(module.tree)]
    for module in modules():
        classes = [node for node in module.tree.body if isinstance(node, ast.ClassDef)]
        silent += [f"{module.path}:{each.name}" for each in classes if is_public(each.name) and not ast.get_docstring(each)]
        for name, function in functions(module):
            setter = any(ast.unparse(each).endswith(".setter") for each in function.decorator_list)
            if is_public(name) and not setter and not ast.get_docstring(function):
                silent.append(f"{module.path}:{name}")
    assert silent == []


def is_public(name: str) -> bool:
    return not any(part.startswith("_") for part in name.split("."))


@pytest.mark.parametrize("folder", ["exporters", "dashboards"])
def test_what_operations_teams_deploy_holds_no_python(folder: str) -> None:
    assert (ROOT / folder / "README.md").is_file()
    assert list((ROOT / folder).rglob("*.py")) == []


def project_files() -> list[Path]:
    """Files of the project: those that git knows or would take; in an unpacked source archive, all of them."""
    if (ROOT / ".git").exists():
        command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
        return [ROOT / name for name in listed if name and (ROOT / name).is_file()]
    return [
        path for path in ROOT.rglob("*") if path.is_file() and not any(p.startswith(".") for p in path.relative_to(ROOT).parts)
    ]


#: folders of somebody's machine, and where somebody's packages come from; in pieces, for this file is read too
MACHINE: Final = re.compile(r"(?<![\w.~/-])/(?:" + "|".join(("home/\\w", "root/", "work/", "Users/\\w")) + ")")
REGISTRY: Final = re.compile(
    "|".join(("--index" + "-url", "PIP_" + "INDEX", "UV_" + "INDEX", "arti" + "factory", "dev" + "pi", "/simple" + "/")), re.I
)
TEMPORARY: Final = re.compile(r"(?<![\w.-])/tmp/")


def test_no_file_speaks_of_somebodys_machine_or_registry() -> None:
    found = []
    for path in project_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:  # a picture
            continue
        inside = path.is_relative_to(PACKAGE)
        for number, line in enumerate(text.splitlines(), 1):
            if MACHINE.search(line) or REGISTRY.search(line) or (inside and TEMPORARY.search(line)):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}")
    assert found == []
