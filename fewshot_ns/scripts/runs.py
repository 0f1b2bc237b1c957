"""Reading a trained run: its config file, and the scene that it was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, Tuple

if TYPE_CHECKING:
    from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
    from nerfstudio.engine.trainer import TrainerConfig
    from nerfstudio.pipelines.base_pipeline import Pipeline

    from fewshot_ns.data.scene_geometry import FewShotMetadata


def load_run_config(path: Path) -> TrainerConfig:
    """Reads the config.yml of a run, or of the only run below a folder.

    As with the host's own commands, such a file can run code: read only those that you or a person you trust wrote.

    Args:
        path: config.yml, or a folder with exactly one of them somewhere below.

    Raises:
        FileNotFoundError: no such file, or none in the folder.
        ValueError: the file is no config of a run, or the folder holds several runs.
    """
    import yaml
    from nerfstudio.engine.trainer import TrainerConfig

    config = yaml.load(find_config(path).read_text(), Loader=yaml.Loader)
    if not isinstance(config, TrainerConfig):
        raise ValueError(f"{path}: expected the config.yml of a training run, found {type(config).__name__}")
    return config


def find_config(path: Path) -> Path:
    """The config.yml that `path` names or holds.

    Raises:
        FileNotFoundError: no such file, or none in the folder.
        ValueError: the folder holds several runs.
    """
    if path.is_file():
        return path
    found = sorted(path.rglob("config.yml"))
    if not found:
        where = "no such file or folder" if not path.exists() else "a folder without one"
        raise FileNotFoundError(f"{path}: expected the config.yml of a training run, found {where}")
    if len(found) > 1:
        names = "\n  ".join(str(file) for file in found)
        raise ValueError(f"{path}: expected one training run, found {len(found)}; name one of\n  {names}")
    return found[0]


def scene_of_run(config: TrainerConfig) -> Tuple[DataparserOutputs, FewShotMetadata]:
    """Parses the training split of a run's scene; reads poses and intrinsics, no images.

    Raises:
        FileNotFoundError: the scene is not where it was at training.
        ValueError: it cannot be read, or came from a dataparser of another package.
    """
    from fewshot_ns.data.scene_geometry import get_fewshot_metadata

    datamanager = config.pipeline.datamanager
    parser_config = getattr(datamanager, "dataparser", None)
    if parser_config is None:
        raise ValueError(f"a run with a dataparser is expected, but {type(datamanager).__name__} has none")
    if datamanager.data is not None:
        parser_config.data = Path(datamanager.data)
    outputs = parser_config.setup().get_dataparser_outputs(split="train")
    return outputs, get_fewshot_metadata(outputs.metadata)


def load_run(path: Path, test_mode: Literal["test", "val", "inference"] = "test") -> Pipeline:
    """Loads the last checkpoint of a run, ready to render.

    Args:
        path: Its config.yml.
        test_mode: As the host's: 'inference' builds no dataset, 'test' the one of the test views.

    Raises:
        FileNotFoundError: the run has no checkpoint.
    """
    from nerfstudio.utils.eval_utils import eval_setup

    folder = load_run_config(path).get_checkpoint_dir()
    # The host would end this process.
    if not any(folder.glob("*.ckpt")):
        raise FileNotFoundError(f"{folder}: expected a checkpoint (step-N.ckpt), found none; is the training finished?")
    return eval_setup(path, test_mode=test_mode)[1]
