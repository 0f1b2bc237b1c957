"""Reading a trained run: its config file, and the scene that it was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Literal, Optional, Tuple

if TYPE_CHECKING:
    from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
    from nerfstudio.engine.trainer import TrainerConfig
    from nerfstudio.pipelines.base_pipeline import Pipeline

    from fewshot_ns.data.records.metadata import FewShotMetadata

_NEEDED = ("method_name", "optimizers", "pipeline", "vis")
"""Fields of a trainer's config that a file has to have. The last of them stands last in it: without it, it is cut."""


def load_run_config(path: Path) -> TrainerConfig:
    """Reads the config.yml of a run, or of the only run below a folder.

    Nothing that the file names is called, see `config_file`; nerfstudio's own commands run code that such a file names.

    Args:
        path: config.yml, or a folder with exactly one of them somewhere below.

    Raises:
        FileNotFoundError: no such file, or none in the folder.
        ValueError: the file is no config of a run, or names what is refused, or the folder holds several runs.
    """
    import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only
    from nerfstudio.engine.trainer import TrainerConfig

    from fewshot_ns.utils.config_file import read_config

    file = find_config(path)
    config = read_config(file, _NEEDED)
    if not isinstance(config, TrainerConfig):
        raise ValueError(f"{path}: expected the config.yml of a training run, found {type(config).__name__}")
    for name in ("datamanager", "model"):
        if not hasattr(vars(config.pipeline).get(name), "_target"):
            raise ValueError(f"{path}: expected a pipeline with a config of its {name}, found one without")
    return in_its_folder(config, file)


def in_its_folder(config: TrainerConfig, file: Path) -> TrainerConfig:
    """The config of a run whose checkpoints are looked for beside its file, wherever that has been moved."""
    beside = file.resolve().parent / config.relative_model_dir
    if beside.is_dir():
        config.relative_model_dir = beside
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

    Where the scene is not where it was at training, they come from the folder of the run.

    Raises:
        FileNotFoundError: the scene is not where it was at training, and the folder of the run does not hold it.
        ValueError: it cannot be read, or came from a dataparser of another package.
    """
    from fewshot_ns.data.datamanagers.fewshot import with_stored_scene_if_missing
    from fewshot_ns.data.datamanagers.multiscene import MultiSceneDataManagerConfig
    from fewshot_ns.data.records.metadata import get_fewshot_metadata
    from fewshot_ns.pipelines.fewshot_pipeline import FewShotPipelineConfig
    from fewshot_ns.pipelines.suited_scenes import suit_scene_to_backbone

    datamanager = config.pipeline.datamanager
    if isinstance(datamanager, MultiSceneDataManagerConfig):
        # The scene that nerfstudio's commands render, not the first that trained.
        outputs = datamanager.setup(device="cpu", test_mode="inference").train_dataparser_outputs
        return outputs, get_fewshot_metadata(outputs.metadata)
    if isinstance(config.pipeline, FewShotPipelineConfig):
        suit_scene_to_backbone(config.pipeline)
    parser_config = getattr(datamanager, "dataparser", None)
    if parser_config is None:
        raise ValueError(f"a run with a dataparser is expected, but {type(datamanager).__name__} has none")
    datamanager = with_stored_scene_if_missing(datamanager, config.get_checkpoint_dir().parent)
    parser_config = datamanager.dataparser
    if datamanager.data is not None:
        parser_config.data = Path(datamanager.data)
    outputs = parser_config.setup().get_dataparser_outputs(split="train")
    return outputs, get_fewshot_metadata(outputs.metadata)


def load_run(
    path: Path,
    test_mode: Literal["test", "val", "inference"] = "test",
    change: Callable[[Any], None] = lambda config: None,
    best: bool = False,
) -> Pipeline:
    """The pipeline of `load_checkpoint_of_run`."""
    return load_checkpoint_of_run(path, test_mode, change, best)[0]


def load_checkpoint_of_run(
    path: Path,
    test_mode: Literal["test", "val", "inference"] = "test",
    change: Callable[[Any], None] = lambda config: None,
    best: bool = False,
) -> Tuple[Pipeline, Path]:
    """Loads the last checkpoint of a run, or the one that was kept as its best, ready to render.

    Where the last one is damaged, the backup before it is taken, and a line says so.

    Args:
        path: Its config.yml.
        test_mode: As nerfstudio's: 'inference' builds no dataset, 'test' the one of the test views.
        change: Changes the run's config before anything is built from it.
        best: Whether it is the best one, of a run that was trained with --keep-best.

    Returns:
        The pipeline, and the file that was loaded.

    Raises:
        FileNotFoundError: the run has no checkpoint.
        DamagedCheckpointError: none of its checkpoints can be read.
        CheckpointMismatchError: the checkpoint is of another method.
    """
    from fewshot_ns.utils.checkpoints import checkpoints_in

    path = find_config(path)
    config = load_run_config(path)
    folder = checkpoint_folder(config, best)
    # nerfstudio would end this process, or take every file that lies there for a checkpoint.
    if not checkpoints_in(folder):
        raise FileNotFoundError(f"{folder}: expected a checkpoint (step-N.ckpt), found none; is the training finished?")
    _take_todays_datamanager(config, path)
    change(config)
    config = in_its_folder(config, path)
    if best:
        config.relative_model_dir = checkpoint_folder(config, best).resolve()
    return _pipeline_with_weights(config, test_mode, best)


def _take_todays_datamanager(config: Any, path: Path) -> None:
    """Lets the datamanager be of the class that its method has now, as nerfstudio's commands do."""
    from nerfstudio.configs.method_configs import all_methods

    method: Any = all_methods.get(config.method_name)
    if method is None or method.pipeline is None:
        raise ValueError(
            f"{path}: expected a run of an installed method, found one of {str(config.method_name)[:100]!r}"
        )
    config.pipeline.datamanager._target = method.pipeline.datamanager._target


def _pipeline_with_weights(
    config: Any, test_mode: Literal["test", "val", "inference"], best: bool
) -> Tuple[Pipeline, Path]:
    """What nerfstudio's `eval_setup` builds, without its loader of configs, which runs what these name, and without
    unpickling more than tensors and plain values, with the last checkpoint that can be read."""
    import torch

    from fewshot_ns.engine.resume import load_last_good
    from fewshot_ns.engine.resume_state import check_method
    from fewshot_ns.engine.trainer import FewShotTrainerConfig

    config.load_dir = config.get_checkpoint_dir()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    pipeline = config.pipeline.setup(device=device, test_mode=test_mode)
    pipeline.eval()
    # Before the best checkpoint there is none: the backup is of the last one.
    file, state = load_last_good(config.load_dir, config.load_step, backup=not best)
    if isinstance(config, FewShotTrainerConfig):
        check_method(state, config.method_name, file)
    pipeline.load_pipeline(state["pipeline"], state["step"])
    return pipeline, file


def checkpoint_folder(config: TrainerConfig, best: bool = False) -> Path:
    """Folder of a run's checkpoints, or of the one that was kept as its best.

    Raises:
        FileNotFoundError: none was kept.
    """
    from fewshot_ns.engine.best import BEST_DIR
    from fewshot_ns.utils.checkpoints import checkpoints_in

    folder = config.get_checkpoint_dir()
    if not best:
        return folder
    kept = folder.parent / BEST_DIR
    if not checkpoints_in(kept):
        raise FileNotFoundError(f"{kept}: expected the best checkpoint of a run trained with --keep-best, found none")
    return kept


def checkpoint_pipeline(method: str, weights: Path) -> Pipeline:
    """A pipeline of one of NeRF's synthetic scenes without its files, with the weights of a checkpoint.

    Args:
        method: name of one of this package's methods of single scenes.
        weights: as `--pipeline.initial-weights` takes it.

    Raises:
        FileNotFoundError: no such checkpoint.
        ValueError: an unknown method, or a file that is no checkpoint of it.
        CheckpointMismatchError: a checkpoint of another method or size.
    """
    import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only

    from fewshot_ns.data.dataparsers.automatic import FewShotAutoDataParserConfig
    from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig
    from fewshot_ns.data.dataparsers.single.stored import StoredSceneDataParserConfig, synthetic_scene
    from fewshot_ns.pipelines.generalizable_pipeline import GeneralizablePipelineConfig

    config = method_config(method).pipeline
    if isinstance(config, GeneralizablePipelineConfig):
        raise ValueError(f"--method {method}: expected a method of single scenes")
    manager: Any = config.datamanager
    parser = manager.dataparser
    if isinstance(parser, FewShotAutoDataParserConfig):
        parser = parser.settings_for(FewShotBlenderDataParserConfig)
    if not isinstance(parser, FewShotBlenderDataParserConfig):
        parser = FewShotBlenderDataParserConfig(downscale_factor=2)
    manager.dataparser = StoredSceneDataParserConfig(content=synthetic_scene(parser))
    return _with_weights(config, weights)


def released_pipeline(
    path: Path, method: Optional[str], point_at_scene: Optional[Callable[[Any], None]] = None
) -> Pipeline:
    """A pipeline with the weights of a file, ready to render.

    Args:
        path: as `--pipeline.initial-weights` takes it.
        method: name of one of this package's methods; None: by what the file holds.
        point_at_scene: changes the config of a generalizable method so that it renders a scene of this disk; None: no
            scene is given. Other methods render one of NeRF's synthetic scenes, without its files.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an unknown method, a file that is no checkpoint of it, or a scene that is missing or not wanted.
        CheckpointMismatchError: a checkpoint of another method or size.
    """
    import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only

    from fewshot_ns.pipelines.generalizable_pipeline import GeneralizablePipelineConfig

    name = method or released_method(path)
    config = method_config(name)
    if not isinstance(config.pipeline, GeneralizablePipelineConfig):
        if point_at_scene is not None:
            raise ValueError(f"--data, --scene and --source-views: {path} is of {name}, whose weights are the scene")
        return checkpoint_pipeline(name, path)
    if point_at_scene is None:
        raise ValueError(
            f"{path}: weights of {name}, which renders a scene from photos of it; give --data DIR (and --source-views "
            "VIEWS)"
        )
    point_at_scene(config)
    pipeline: Any = _with_weights(config.pipeline, path)
    # What the source views are to the weights that have just come.
    pipeline.render_scene(pipeline.datamanager.active)
    return pipeline


def released_method(path: Path) -> str:
    """The method whose released weights a file holds, by the names of their parameters.

    Raises:
        FileNotFoundError: no such file.
        ValueError: none of DietNeRF's, pixelNeRF's or mipnerf_pl's files.
    """
    import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only

    from fewshot_ns.models.convert_dietnerf import is_torch_file, released_networks
    from fewshot_ns.models.convert_mipnerf import released_mipnerf
    from fewshot_ns.pretrained.weights import load_weights

    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a run or a file of released weights, found none")
    if not is_torch_file(path):
        networks = released_networks(path, num_octaves=10, view_octaves=4) or ()
        return "dietnerf-jax-coarse" if len(networks) == 1 else "dietnerf-jax"
    mipnerf = released_mipnerf(path)
    if mipnerf is not None:
        return "mipnerf-fewshot" if mipnerf.proposal is None else "depth-mipnerf"
    names = load_weights(path).keys()
    if "network_fn_state_dict" in names:
        return "dietnerf"
    if any(name.removeprefix("module.").startswith("mlp_coarse.") for name in names):
        return "pixelnerf"
    if "pipeline" in names:
        raise ValueError(
            f"{path}: expected a run or released weights, found a checkpoint of a training; give the folder of its "
            "run, or say what it is by --method"
        )
    raise ValueError(
        f"{path}: expected weights of DietNeRF, pixelNeRF or mipnerf_pl, found others; say what they are by --method"
    )


def method_config(name: str) -> TrainerConfig:
    """A config of one of this package's methods, to change.

    Raises:
        ValueError: an unknown method.
    """
    from copy import deepcopy

    import nerfstudio.configs.method_configs  # noqa: F401 - nerfstudio's modules import each other in this order only

    from fewshot_ns import registry

    known = [method.replace("_", "-") for method in registry.METHODS]
    if name.replace("_", "-") not in known:
        raise ValueError(f"--method: expected one of {', '.join(known)}, got {name!r}")
    return deepcopy(registry.method_specification(name.replace("-", "_")).config)


def _with_weights(config: Any, weights: Path) -> Pipeline:
    """The pipeline of a config, for rendering, with the weights of a checkpoint."""
    import torch

    pipeline = config.setup(device="cuda" if torch.cuda.is_available() else "cpu", test_mode="inference")
    pipeline.model.start_from(weights)
    return pipeline.eval()
