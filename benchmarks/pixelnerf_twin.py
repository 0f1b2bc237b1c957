"""A plain pixelNeRF in PyTorch, step by step as the text describes it; float32, nothing merged or reordered."""

from __future__ import annotations

from typing import Dict, Tuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import resnet34


class TwinNetwork(nn.Module):
    """Five residual blocks of 512, features before the first three, the mean over views after them."""

    def __init__(self, width: int = 512, inputs: int = 42, latents: int = 512) -> None:
        super().__init__()
        self.lin_in, self.lin_out = nn.Linear(inputs, width), nn.Linear(width, 4)
        self.lin_z = nn.ModuleList(nn.Linear(latents, width) for _ in range(3))
        self.fc_0 = nn.ModuleList(nn.Linear(width, width) for _ in range(5))
        self.fc_1 = nn.ModuleList(nn.Linear(width, width) for _ in range(5))

    def forward(self, inputs: Tensor, latents: Tensor) -> Tensor:
        """(B, P, 4) raw of inputs (B, V, P, 42) and features (B, V, P, 512)."""
        x = self.lin_in(inputs)
        for index in range(5):
            if index == 3:
                x = x.mean(dim=1)
            if index < 3:
                x = x + self.lin_z[index](latents)
            x = x + self.fc_1[index](torch.relu(self.fc_0[index](torch.relu(x))))
        return self.lin_out(torch.relu(x))


class Twin(nn.Module):
    """Encoder and both networks; 64 + 16 + 16 samples."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = resnet34(weights=None)
        self.coarse, self.fine = TwinNetwork(), TwinNetwork()

    def encode(self, images: Tensor) -> Tensor:
        """(B, V, 512, H / 2, W / 2) features of images (B, V, 3, H, W) in [-1, 1]."""
        net = self.encoder
        x = net.relu(net.bn1(net.conv1(images.flatten(0, 1))))
        maps = [x]
        x = net.maxpool(x)
        for layer in (net.layer1, net.layer2, net.layer3):
            x = layer(x)
            maps.append(x)
        size = maps[0].shape[-2:]
        maps = [functional.interpolate(each, size, mode="bilinear", align_corners=True) for each in maps]
        return torch.cat(maps, dim=1).unflatten(0, images.shape[:2])

    def query(self, network: TwinNetwork, points: Tensor, directions: Tensor, views: Dict[str, Tensor]) -> Tensor:
        """(B, P, 4) colour and density of points and directions (B, P, 3)."""
        rotated = torch.einsum("bvij,bpj->bvpi", views["rotations"], points)
        along = torch.einsum("bvij,bpj->bvpi", views["rotations"], directions)
        in_camera = rotated + views["translations"][:, :, None]
        focal, centre = views["focal"][:, :, None], views["centre"][:, :, None]
        uv = -in_camera[..., :2] / in_camera[..., 2:] * focal * torch.tensor([1.0, -1.0]) + centre
        maps = views["maps"].flatten(0, 1)
        size = torch.tensor([maps.shape[-1], maps.shape[-2]])
        grid = uv.flatten(0, 1) * (size / (size - 1) * 2 / views["image_size"]) - 1
        latents = functional.grid_sample(maps, grid[:, None], padding_mode="border", align_corners=True)
        latents = latents[:, :, 0].transpose(1, 2).unflatten(0, uv.shape[:2])
        encoded = [rotated]
        for octave in range(6):
            encoded += [torch.sin(1.5 * 2**octave * rotated), torch.cos(1.5 * 2**octave * rotated)]
        raw = network(torch.cat([*encoded, along], dim=-1), latents)
        return torch.cat([torch.sigmoid(raw[..., :3]), torch.relu(raw[..., 3:])], dim=-1)

    def forward(self, rays: Dict[str, Tensor], views: Dict[str, Tensor]) -> Tuple[Tensor, Tensor]:
        """Colours (B, R, 3) of both networks before white; see `query` for the views, with `maps` from `encode`."""
        near, far, count = rays["near"], rays["far"], 64
        z = near + (far - near) * (torch.arange(count) + torch.rand(*near.shape[:2], count)) / count
        coarse, weights = self._render(self.coarse, z, rays, views)
        pdf = weights.detach() + 1e-5
        cdf = torch.cumsum(pdf / pdf.sum(-1, keepdim=True), dim=-1)
        cdf = torch.cat([torch.zeros_like(cdf[..., :1]), cdf], dim=-1)
        bins = torch.searchsorted(cdf, torch.rand(*near.shape[:2], 16), right=True) - 1
        further = near + (far - near) * (bins + torch.rand(*near.shape[:2], 16)) / count
        depth = (weights * z).sum(-1, keepdim=True) + 0.01 * torch.randn(*near.shape[:2], 16)
        depth = torch.maximum(torch.minimum(depth, far), near)
        z = torch.cat([z, further, depth], dim=-1).sort(dim=-1).values
        return coarse, self._render(self.fine, z, rays, views)[0]

    def _render(
        self, network: TwinNetwork, z: Tensor, rays: Dict[str, Tensor], views: Dict[str, Tensor]
    ) -> Tuple[Tensor, Tensor]:
        points = rays["origins"][:, :, None] + z[..., None] * rays["directions"][:, :, None]
        directions = rays["directions"][:, :, None].expand_as(points)
        out = self.query(network, points.flatten(1, 2), directions.flatten(1, 2), views).unflatten(1, z.shape[1:])
        lengths = torch.cat([z[..., 1:], rays["far"]], dim=-1) - z
        alpha = 1 - torch.exp(-lengths * out[..., 3])
        passed = torch.cumprod(torch.cat([torch.ones_like(alpha[..., :1]), 1 - alpha + 1e-10], dim=-1), dim=-1)
        weights = alpha * passed[..., :-1]
        return (weights[..., None] * out[..., :3]).sum(-2) + 1 - weights.sum(-1, keepdim=True), weights
