"""export/README.md says every key of a recipe with its default, and lists every recipe."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec
import pytest

from edgevit.recipe import Recipe, check_recipe, read_recipe

if TYPE_CHECKING:
    from pathlib import Path

TABLES = ("trace", "calibration", "evaluation", "plan", "parity", "bench")


def rows(text: str, heading: str) -> dict[str, str]:
    """Key to what stands in the column of defaults, for the table whose first column is `heading`."""
    _, _, rest = text.partition(f"| {heading} |")
    lines = rest.partition("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return {re.sub(r"\..*", "", row[0].strip("`")): row[1] for row in cells}


@pytest.fixture(scope="module")
def readme(repository: Path) -> str:
    return (repository / "export" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("table", TABLES)
def test_every_key_of_a_table_is_there_with_its_default(readme: str, table: str) -> None:
    settings = getattr(Recipe(model="any"), table)
    described = rows(readme, f"`[{table}]`")
    assert set(described) == set(settings.__struct_fields__)
    for key, default in msgspec.to_builtins(settings).items():
        if default is not None and default != ():
            assert described[key].strip("`") == msgspec.json.encode(default).decode().replace(",", ", ")


def test_every_key_outside_the_tables_is_there(readme: str) -> None:
    assert set(rows(readme, "key")) == set(Recipe.__struct_fields__) - set(TABLES)


def test_the_readme_lists_every_recipe(repository: Path, readme: str) -> None:
    recipes = {path.name for path in (repository / "export").glob("*.toml")}
    assert {f"vit-{size}-224.toml" for size in ("tiny", "small", "base", "large", "huge")} <= recipes
    listed = re.findall(r"^\| ((?:`[\w-]+\.toml`(?:, )?)+) \|", readme, re.MULTILINE)
    assert {name for cell in listed for name in re.findall(r"[\w-]+\.toml", cell)} == recipes


@pytest.mark.parametrize("size", ["tiny", "small", "base", "large"])
def test_a_recipe_of_an_untrained_size_names_sets_that_are_there(repository: Path, size: str) -> None:
    recipe = read_recipe(repository / "export" / f"vit-{size}-224.toml")
    check_recipe(recipe)
    assert recipe.model == f"zoo:vit-{size}-224"
    assert {text.partition(":")[2] for text in recipe.targets} == {"float32", "int8"}
    from edgevit.sets import check_disjoint, open_set

    assert recipe.calibration.set is not None
    assert recipe.evaluation.set is not None
    check_disjoint(open_set(recipe.calibration.set), open_set(recipe.evaluation.set))
