"""dietnerf-jax: DietNeRF as its JAX version changes it: projected embedding, cropped grid, a last stage on the photos.

Source: codestella/putting-nerf-on-a-diet. It trains on 800x800 photos; its branch `coarse_only` compares the coarse
network alone and gives its fine network 64 samples.
"""

from fewshot_ns.configs.dietnerf import MAX_STEPS, dietnerf
from fewshot_ns.configs.variants import derive, one_scene
from fewshot_ns.pretrained.encoders.config import EncoderConfig
from fewshot_ns.priors.unseen_views import UnseenViewsConfig

STOP_STEP = 160000

dietnerf_jax = derive(
    dietnerf,
    "dietnerf-jax",
    datamanager={"dataparser": one_scene(), "crop_steps": 0},
    semantic={
        "encoder": EncoderConfig(output="projected", resize="keys", clamp=False),
        "views": UnseenViewsConfig(radius=(2.0, 6.0), one_draw=True, grid="crop", grid_size=75),
        "fine_weight": 0.01,
        "coarse_weight": 0.01,
        "interval": 16,
        "stop_step": STOP_STEP,
        "target_order": "cycle",
        "stratified": False,
    },
    schedule={"lr_final": 5e-6, "max_steps": MAX_STEPS},
)

dietnerf_jax_coarse = derive(
    dietnerf_jax,
    "dietnerf-jax-coarse",
    model={"num_importance_samples": 64},
    semantic={"fine_weight": 0.0},
)
