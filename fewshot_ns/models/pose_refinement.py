"""Models that may refine the poses of their training photos: nerfstudio's camera optimizer, as nerfacto has it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, List, Optional, Type

import torch
from nerfstudio.cameras.camera_optimizers import CameraOptimizerConfig
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes, TrainingCallbackLocation
from nerfstudio.models.base_model import Model, ModelConfig
from nerfstudio.utils import comms
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor
from torch.nn import Parameter

from fewshot_ns.cameras.pose_corrections import CAMERA_GROUP, corrected_cameras, correction_sizes


@dataclass
class PoseRefiningModelConfig(ModelConfig):
    """What a model does about the poses of its training photos."""

    _target: Type = field(default_factory=lambda: PoseRefiningModel)
    """Class that the config builds."""
    camera_optimizer: CameraOptimizerConfig = field(default_factory=CameraOptimizerConfig)
    """Whether training also refines the poses of its photos, for poses that were recovered and are not exact."""


class PoseRefiningModel(Model):
    """Base of models whose training photos may get other poses while they train; test views keep theirs."""

    config: PoseRefiningModelConfig

    def populate_modules(self) -> None:
        """Builds the optimizer of the poses where they are refined."""
        super().populate_modules()
        if self.refines_poses:
            # Where they are not, nerfstudio's commands must find no such part, which `ns-export cameras` would ask for
            # more than our cameras hold.
            self.camera_optimizer = self.config.camera_optimizer.setup(num_cameras=self.num_train_data, device="cpu")

    @property
    def refines_poses(self) -> bool:
        """Whether training moves the poses of its photos."""
        return self.config.camera_optimizer.mode != "off"

    def pose_corrections(self) -> Optional[Tensor]:
        """(V, 3, 4) corrections of the training cameras, see `cameras.pose_corrections`; None where poses stay."""
        if not self.refines_poses:
            return None
        return self.camera_optimizer(torch.arange(self.num_train_data, device=self.device))

    def pose_groups(self) -> Dict[str, List[Parameter]]:
        """The parameters of the poses, a group of its own; none where poses stay."""
        return {CAMERA_GROUP: list(self.camera_optimizer.parameters())} if self.refines_poses else {}

    def pose_terms(self) -> Dict[str, Tensor]:
        """nerfstudio's penalties, which keep poses near to where they were; none where poses stay."""
        terms: Dict[str, Tensor] = {}
        if self.refines_poses:
            self.camera_optimizer.get_loss_dict(terms)
        return terms

    @torch.no_grad()
    def pose_changes(self) -> Dict[str, Tensor]:
        """By how much training has moved its poses so far, degrees and world units; nothing where poses stay.

        The names are those of nerfstudio's log.
        """
        corrections = self.pose_corrections()
        if corrections is None:
            return {}
        degrees, distance = correction_sizes(corrections)
        return {
            f"{CAMERA_GROUP}_rotation_mean": degrees.mean(),
            f"{CAMERA_GROUP}_rotation_max": degrees.max(),
            f"{CAMERA_GROUP}_translation_mean": distance.mean(),
            f"{CAMERA_GROUP}_translation_max": distance.max(),
        }

    def training_cameras(self, cameras: Cameras) -> Cameras:
        """The training cameras (V,), in a training step with refined poses; at evaluation as they are."""
        corrections = self.pose_corrections() if self.training else None
        return cameras if corrections is None else corrected_cameras(cameras, corrections)

    def get_training_callbacks(
        self, training_callback_attributes: TrainingCallbackAttributes
    ) -> List[TrainingCallback]:
        """Tells the user at the end by how much poses have moved, where they have."""
        if not self.refines_poses:
            return []
        return [TrainingCallback([TrainingCallbackLocation.AFTER_TRAIN], lambda step: self._say_pose_changes())]

    def _say_pose_changes(self) -> None:
        if not comms.is_main_process():
            return
        found = {name.removeprefix(f"{CAMERA_GROUP}_"): float(value) for name, value in self.pose_changes().items()}
        CONSOLE.print(
            f"Poses of the {self.num_train_data} training photos: "
            f"turned by {found['rotation_mean']:.3g} degrees on average (at most {found['rotation_max']:.3g}), "
            f"moved by {found['translation_mean']:.3g} scene units (at most {found['translation_max']:.3g})",
            soft_wrap=True,
            highlight=False,
        )
