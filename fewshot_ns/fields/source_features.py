"""Input of a generalizable network: points along rays, with the features that source views have there."""

from __future__ import annotations

from copy import copy
from typing import Dict, List, Tuple

import torch
from torch import Tensor

from fewshot_ns.data.records.scene import Conditioning
from fewshot_ns.field_components.encodings import positional_encoding
from fewshot_ns.fields.pixelnerf_field import PixelNeRFField
from fewshot_ns.model_components.source_views import Interpolation, Padding, SourceCameras, look_up, lookup_taps

POINTS_AT_ONCE = 8192
"""Points times views that are evaluated at once without a graph on a CPU: their features are some 25 MB."""


class SourceFeatures:
    """Feature maps of source views, B scenes of V views each, and the evaluation of networks at points with them.

    Args:
        conditioning: the source views.
        maps: (B * V, C, h, w) features of their images.
        padding: features of points that fall outside an image.
        interpolation: how features are looked up between pixels.
        frequency: lowest frequency of the position encoding.
        num_octaves: its octaves.
        camera_positions: encode points relative to the camera; else relative to the world's origin, in its axes.
    """

    def __init__(
        self,
        conditioning: Conditioning,
        maps: Tensor,
        padding: Padding = "border",
        interpolation: Interpolation = "bilinear",
        frequency: float = 1.5,
        num_octaves: int = 6,
        camera_positions: bool = False,
    ) -> None:
        self.conditioning, self.cameras = conditioning, SourceCameras.of(conditioning)
        self.padding: Padding = padding
        self.interpolation: Interpolation = interpolation
        self.camera_positions = camera_positions
        self.frequency, self.num_octaves = frequency, num_octaves
        self.map_size = maps.shape[-1], maps.shape[-2]
        self.latents = maps.movedim(1, -1).flatten(0, 2)
        self._projected: Dict[PixelNeRFField, Tensor] = {}

    @property
    def num_views(self) -> int:
        """Source views of each scene."""
        return self.conditioning.images.shape[1]

    def for_pass(self) -> SourceFeatures:
        """The object to query in one forward pass: without a graph this one, with one a copy without its projections.

        A pass whose graph is thrown away and made again (torch's checkpointing) must then compute the same again.
        """
        if not torch.is_grad_enabled():
            return self
        own = copy(self)
        own._projected = {}
        return own

    def query(
        self, network: PixelNeRFField, origins: Tensor, directions: Tensor, z: Tensor, scenes: Tensor
    ) -> Tuple[Tensor, Tensor]:
        """Raw density and colour at points along rays.

        Args:
            network: the network.
            origins: (R, 3) world.
            directions: (R, 3) world, of unit length.
            z: (R, S) distances along the rays; gradients flow to them where they require one.
            scenes: (R,) index of each ray's scene among the B.

        Returns:
            (R, S) and (R, S, 3), before their activations.
        """
        step = max(POINTS_AT_ONCE // max(z.shape[1] * self.num_views, 1), 1)
        if torch.is_grad_enabled() or z.device.type != "cpu" or len(z) <= step:
            raw = self._query(network, origins, directions, z, scenes)
        else:
            starts = range(0, len(z), step)
            parts: List[List[Tensor]] = [
                [tensor[start : start + step] for tensor in (origins, directions, z, scenes)] for start in starts
            ]
            raw = torch.cat([self._query(network, *part) for part in parts])  # type: ignore[call-arg]
        return raw[..., 3], raw[..., :3]

    def _query(self, network: PixelNeRFField, origins: Tensor, directions: Tensor, z: Tensor, scenes: Tensor) -> Tensor:
        start, along = (self.cameras.rotated(vectors, scenes)[:, :, None] for vectors in (origins, directions))
        positions = start + z[..., None] * along
        height, width = self.conditioning.images.shape[2:4]
        uv = self.cameras.project(positions, scenes)
        pixels, shares = lookup_taps(uv, (width, height), self.map_size, self.padding, self.interpolation)
        views = torch.arange(self.num_views, device=scenes.device)[:, None]
        first = (scenes * self.num_views + views) * (self.map_size[0] * self.map_size[1])
        projected = self._features(network, pixels + first[..., None, None], shares)
        if self.camera_positions:
            positions = self.cameras.moved(positions, scenes)
        inputs = encode_points(positions, along.expand_as(positions), self.frequency, self.num_octaves)
        return network(inputs.flatten(1, 2), projected.flatten(1, 2)).view(*z.shape, 4)

    def _features(self, network: PixelNeRFField, pixels: Tensor, shares: Tensor) -> Tensor:
        """(V, R, S, P * W) projected features at points, by whichever order of look-up and projection costs less."""
        graph = torch.is_grad_enabled()
        projected = self._projected.get(network)
        # What was projected without a graph, at evaluation, passes no gradient on.
        if projected is None or (graph and not projected.requires_grad):
            if graph and len(self.latents) > pixels[..., 0].numel():
                return network.project(look_up(self.latents.to(network.format), pixels, shares))
            projected = self._projected[network] = network.project(self.latents)
        return look_up(projected, pixels, shares)


def encode_points(positions: Tensor, directions: Tensor, frequency: float, num_octaves: int) -> Tensor:
    """(..., 6 * num_octaves + 6) encoded positions (..., 3) and, as they are, directions (..., 3).

    Columns [position, sines and cosines of octave 0, of octave 1, ..., direction].
    """
    encoded = positional_encoding(frequency * positions, num_octaves, include_input=False, by_octave=True)
    return torch.cat([positions, encoded, directions], dim=-1)
