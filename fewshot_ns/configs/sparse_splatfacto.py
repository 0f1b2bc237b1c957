"""sparse-splatfacto: Gaussian splats for few views."""

from nerfstudio.configs.base_config import ViewerConfig

from fewshot_ns.data.datamanagers.fewshot import FewShotDataManagerConfig
from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.engine.optimizers import ClippedAdamOptimizerConfig
from fewshot_ns.engine.schedulers import RunLengthSchedulerConfig
from fewshot_ns.engine.trainer import FewShotTrainerConfig
from fewshot_ns.model_components.splatting.densification import DensificationConfig
from fewshot_ns.models.sparse_splatfacto import SparseSplatfactoModelConfig
from fewshot_ns.pipelines.fewshot_pipeline import FewShotPipelineConfig

sparse_splatfacto_lite = FewShotTrainerConfig(
    method_name="sparse-splatfacto-lite",
    max_num_iterations=600,
    steps_per_save=500,
    steps_per_eval_batch=0,
    steps_per_eval_image=500,
    steps_per_eval_all_images=0,
    pipeline=FewShotPipelineConfig(
        datamanager=FewShotDataManagerConfig(dataparser=LLFFDataParserConfig(ray_space="metric"), whole_images=True),
        model=SparseSplatfactoModelConfig(sh_degree=0, densification=DensificationConfig(enabled=False)),
    ),
    optimizers={
        name: {
            "optimizer": ClippedAdamOptimizerConfig(lr=lr, eps=1e-15),
            "scheduler": RunLengthSchedulerConfig(final_ratio=0.05),
        }
        for name, lr in (
            ("means", 0.1),
            ("scales", 1e-2),
            ("quats", 5e-3),
            ("features_dc", 2e-2),
            ("features_rest", 1e-3),
            ("opacities", 5e-2),
        )
    },
    viewer=ViewerConfig(num_rays_per_chunk=1 << 15),
    vis="viewer",
)
