"""Scenes as a backbone can take them: what of the dataparser's config follows from the model's."""

from __future__ import annotations

from nerfstudio.pipelines.base_pipeline import VanillaPipelineConfig
from nerfstudio.utils.rich_utils import CONSOLE

from fewshot_ns.data.dataparsers.single.base import FewShotDataParserConfig
from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.models.image_model import ImageModel


def suit_scene_to_backbone(config: VanillaPipelineConfig) -> None:
    """Has the scene read as the backbone needs it: image backbones know metric scenes and pinhole cameras alone.

    In place: nerfstudio's `ns-render dataset` reads photos by the config that it handed in.
    """
    _use_metric_rays(config)
    _use_pinholes(config)


def _use_metric_rays(config: VanillaPipelineConfig) -> None:
    """Takes a scene that may be in NDC as a metric one where the backbone renders images, which know no NDC.

    The cameras are the same.
    """
    parser, built = getattr(config.datamanager, "dataparser", None), config.model._target
    if isinstance(built, type) and issubclass(built, ImageModel) and isinstance(parser, LLFFDataParserConfig):
        if parser.ray_space != "metric":
            instead = " for ndc" if parser.ray_space == "ndc" else ""
            parser.ray_space = "metric"
            CONSOLE.print(f"The backbone renders images of cameras in the world: --ray-space metric is taken{instead}")


def _use_pinholes(config: VanillaPipelineConfig) -> None:
    """Has photos of bent lenses straightened where the backbone renders images, which know pinhole cameras alone.

    Those of pinhole cameras stay as they are.
    """
    parser, built = getattr(config.datamanager, "dataparser", None), config.model._target
    if isinstance(built, type) and issubclass(built, ImageModel) and isinstance(parser, FewShotDataParserConfig):
        parser.straighten = True
