"""Lists that train on some categories and test on the others, as a dataparser reads them, and the command."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Sequence, Tuple

import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
import pytest

from fewshot_ns.data.dataparsers.multi.nmr import NMRDataParserConfig
from fewshot_ns.data.dataparsers.multi.unseen_categories import TRAINED, write_unseen_lists
from fewshot_ns.scripts.cli import main

OBJECTS: Dict[str, Tuple[str, str, str]] = {
    "02691156": ("a b", "c", "d e"),
    "02828884": ("f", "g", "h i"),
    "02958343": ("j", "k", "l"),
    "03001627": ("m n o", "p", "q"),
    "04256520": ("r", "s", "t"),
}


@pytest.fixture
def shapenet(tmp_path: Path) -> Path:
    """Five categories with their lists; lists name folders, which nobody opens."""
    for category, splits in OBJECTS.items():
        (tmp_path / category).mkdir()
        for split, names in zip(("train", "val", "test"), splits, strict=True):
            (tmp_path / category / f"softras_{split}.lst").write_text("\n".join(names.split()), encoding="utf8")
    (tmp_path / "metadata.yaml").write_text("{}", encoding="utf8")
    (tmp_path / "renders").mkdir()
    return tmp_path


def names_of(data: Path, split: str, prefix: str = "gen_") -> Sequence[str]:
    parser = NMRDataParserConfig(data=data, list_prefix=prefix).setup()
    return [entry.scene_id.partition("/")[2] for entry in parser.scene_table(split)]


def test_three_categories_train_and_all_of_the_others_test(shapenet: Path) -> None:
    written = write_unseen_lists(shapenet)
    assert written.trained == TRAINED and written.tested == ("02828884", "04256520")
    assert names_of(shapenet, "train") == ["a", "b", "j", "m", "n", "o"]
    assert names_of(shapenet, "val") == ["c", "k", "p"]
    assert names_of(shapenet, "test") == ["f", "g", "h", "i", "r", "s", "t"]
    assert written.counts == {"train": 6, "val": 3, "test": 7}
    # The lists that were there stay, and a second call changes nothing.
    assert names_of(shapenet, "test", "softras_") == ["d", "e", "h", "i", "l", "q", "t"]
    assert write_unseen_lists(shapenet) == written


def test_other_categories_and_test_lists_alone(shapenet: Path) -> None:
    write_unseen_lists(shapenet, ("04256520",), whole_test=False, prefix="sofa_")
    assert names_of(shapenet, "train", "sofa_") == ["r"]
    assert names_of(shapenet, "test", "sofa_") == ["d", "e", "h", "i", "l", "q"]


def test_lists_of_other_content_are_kept(shapenet: Path) -> None:
    write_unseen_lists(shapenet)
    with pytest.raises(ValueError, match=r"02691156/gen_train.lst: expected no list of other content, .*--overwrite"):
        write_unseen_lists(shapenet, ("04256520",))
    assert names_of(shapenet, "train") == ["a", "b", "j", "m", "n", "o"]
    write_unseen_lists(shapenet, ("04256520",), overwrite=True)
    assert names_of(shapenet, "train") == ["r"] and not (shapenet / "02691156" / "gen_train.lst").exists()


def test_what_is_missing_is_named(shapenet: Path) -> None:
    with pytest.raises(ValueError, match=r"expected categories that train out of 02691156, .*, found 1234 \(--train\)"):
        write_unseen_lists(shapenet, ("02691156", "1234"))
    with pytest.raises(ValueError, match="expected a category that does not train, found none"):
        write_unseen_lists(shapenet, tuple(OBJECTS))
    with pytest.raises(ValueError, match="expected another --prefix"):
        write_unseen_lists(shapenet, prefix="softras_")
    with pytest.raises(FileNotFoundError, match="expected the folder of a data set"):
        write_unseen_lists(shapenet / "none")
    (shapenet / "02691156" / "softras_val.lst").unlink()
    with pytest.raises(FileNotFoundError, match=r"02691156/softras_val.lst: expected the list of this split"):
        write_unseen_lists(shapenet)
    assert not list(shapenet.rglob("gen_*"))


def test_the_command(shapenet: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["genlist", str(shapenet), "--test", "test"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "6 train, 3 val, 3 test objects; 3 categories train, 2 test" in said
    assert f"ns-train pixelnerf-sn64-unseen --data {shapenet} nmr-data" in said
    assert main(["genlist", str(shapenet), "--train", "04256520"]) == 1
