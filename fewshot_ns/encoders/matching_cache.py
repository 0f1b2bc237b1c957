"""Cache of matching features, by view and by pair of views."""

from __future__ import annotations

from typing import List, Tuple

import torch
from torch import Tensor

from fewshot_ns.encoders.gmflow import MatchingEncoder
from fewshot_ns.utils.cache import LRUCache
from fewshot_ns.utils.hashing import digest


class MatchingCache:
    """Runs an encoder without gradient, once for every view and once for every pair of views.

    Features of a pair do not depend on a third view, so the changing source views of successive targets share most of
    them. Views are identified by the content of their images. A change of a weight clears the cache.

    Args:
        encoder: the encoder; its weights are not copied.
        max_mb: size of the cache, MB; 0 keeps nothing.
    """

    def __init__(self, encoder: MatchingEncoder, max_mb: int) -> None:
        self.encoder, self.max_bytes = encoder, max_mb * 1024**2
        self._clear()

    def _clear(self) -> None:
        self._weights = self._version()
        self.kept: LRUCache[List[Tensor]] = LRUCache(self.max_bytes, _size)

    def _version(self) -> Tuple[int, str]:
        """Changes with every write to a weight and with the device."""
        weights = list(self.encoder.parameters())
        return sum(weight._version for weight in weights), str(weights[0].device)

    @torch.no_grad()
    def __call__(self, images: Tensor, dtype: torch.dtype = torch.float32) -> List[Tensor]:
        """The encoder's features of images (B, V, H, W, 3), in another number format."""
        if self._weights != self._version():
            self._clear()
        scenes = [self._scene(views, dtype) for views in images]
        return [torch.stack(scale) for scale in zip(*scenes, strict=True)]

    def _scene(self, images: Tensor, dtype: torch.dtype) -> List[Tensor]:
        """Per scale (V, h, w, (V - 1) * C) of V views."""
        keys = [digest(tuple(image.shape), dtype, image.cpu().contiguous().numpy().tobytes()) for image in images]

        def of_view(view: int) -> List[Tensor]:
            return self.kept.get(keys[view], lambda: self.encoder.view_maps(images[view : view + 1]))

        def of_pair(view: int, other: int) -> List[Tensor]:
            first, second = sorted((view, other), key=lambda index: keys[index])

            def make() -> List[Tensor]:
                both = [torch.stack(maps, dim=1) for maps in zip(of_view(first), of_view(second), strict=True)]
                return [scale[0, :, 0].to(dtype, copy=True) for scale in self.encoder.matched(both)]

            pair = self.kept.get((keys[first], keys[second]), make)
            return [scale[int(view == second)] for scale in pair]

        views = range(len(images))
        pairs = [[of_pair(view, other) for other in views if other != view] for view in views]
        joined = [[torch.cat(scale, dim=-1) for scale in zip(*others, strict=True)] for others in pairs]
        return [torch.stack(scale) for scale in zip(*joined, strict=True)]


def _size(tensors: List[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
