"""stereo-nerf-lite: the compact field, held to the depth that the photos themselves give of each other.

depth-mipnerf's bounds on the weights of a ray, with the standard deviation of each pixel's own depth. Numbers are our
own choice, made on views that no table reports (docs/stereo-nerf.md).
"""

from fewshot_ns.configs.compact import COARSE_TO_FINE, compact
from fewshot_ns.configs.variants import derive

stereo_nerf_lite = derive(
    compact,
    "stereo-nerf-lite",
    model=COARSE_TO_FINE,
    depth={"enabled": True, "source": "stereo", "loss": "cdf", "fade_ratio": 1.0},
)
