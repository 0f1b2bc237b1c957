"""The protocol of priors: schedule, refusals with their messages, and the order in which priors are asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, FrozenSet, List, Literal, Optional, Type

import pytest
import torch
from nerfstudio.cameras.cameras import Cameras
from prior_scenes import context_of, pixels_of, scene_of

from fewshot_ns.data.samplers.pixels import PixelRequest
from fewshot_ns.pipelines.fewshot_pipeline import FewShotPipelineConfig
from fewshot_ns.priors.base import CameraRequest, Needs, Prior, PriorConfig, PriorSet, ScheduleConfig, prior_configs

STEPS = range(20)


@dataclass
class RecorderConfig(PriorConfig):
    """A prior that notes what is asked of it."""

    _target: Type = field(default_factory=lambda: Recorder)
    enabled: bool = True
    asks: Optional[Literal["pixels", "cameras"]] = None
    silent: bool = False
    served: Dict[str, str] = field(default_factory=dict)
    alternative: str = ""
    labels: FrozenSet[Any] = frozenset()
    single_scene: bool = True


class Recorder(Prior[RecorderConfig]):
    calls: List[str] = []

    @property
    def needs(self) -> Needs:
        config = self.config
        return Needs(config.served, config.alternative, config.labels, config.asks, config.single_scene)

    def prepare(self) -> None:
        self.calls.append(f"prepare {self.name}")

    def request(self, step: int) -> Any:
        self.calls.append(f"request {self.name}")
        if self.config.silent:
            return None
        if self.config.asks == "pixels":
            return PixelRequest(torch.zeros(2, 3, dtype=torch.long))
        return CameraRequest(Cameras(torch.eye(4)[None, :3], 1.0, 1.0, 1.0, 1.0, 2, 2))

    def loss_dict(self, step: int, context: Any) -> Dict[str, torch.Tensor]:
        self.calls.append(f"loss {self.name}")
        return {f"term_{self.name}": torch.tensor(float(step))}

    def resolved(self) -> Dict[str, Any]:
        return {"name": self.name}


@pytest.fixture(autouse=True)
def nothing_asked_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recorder, "calls", [])


def set_of(**configs: RecorderConfig) -> PriorSet:
    """Priors of a pipeline whose config has these fields."""
    from dataclasses import make_dataclass

    made = make_dataclass("Config", [(name, RecorderConfig) for name in configs])
    return PriorSet(made(**configs), scene_of())


def test_counts_between_start_and_stop() -> None:
    assert [step for step in STEPS if ScheduleConfig().counts(step)] == list(STEPS)
    bounded = ScheduleConfig(start_step=10, stop_step=15)
    assert [step for step in STEPS if bounded.counts(step)] == list(range(10, 15))
    assert not ScheduleConfig(stop_step=0).counts(0) and ScheduleConfig(start_step=5).counts(10**9)


def test_counts_every_few_steps() -> None:
    assert [step for step in STEPS if ScheduleConfig(interval=3).counts(step)] == [2, 5, 8, 11, 14, 17]
    bounded = ScheduleConfig(interval=3, start_step=4, stop_step=12)
    assert [step for step in STEPS if bounded.counts(step)] == [5, 8, 11]


def test_fade_is_linear_between_its_ends() -> None:
    assert [ScheduleConfig().fade(step) for step in (0, 10**6)] == [1.0, 1.0]
    fading = ScheduleConfig(fade_start_step=10, fade_end_step=20, fade_ratio=0.2)
    assert [fading.fade(step) for step in (0, 10, 15, 20, 99)] == pytest.approx([1.0, 1.0, 0.6, 0.2, 0.2])


def test_an_interval_below_one_is_refused() -> None:
    for name in prior_configs(FewShotPipelineConfig()):
        if name in ("semantic", "diffusion"):
            continue  # they name their other fields in the same line, see their own tests
        config = prior_configs(FewShotPipelineConfig())[name]
        config.interval = 0
        flag = f"--pipeline.{name.replace('_', '-')}.interval"
        with pytest.raises(ValueError, match=f"expected {flag} of at least 1, got 0"):
            config.setup(scene=scene_of(), name=name)


def test_priors_are_the_fields_of_the_config_in_their_order() -> None:
    names = list(prior_configs(FewShotPipelineConfig()))
    assert names[:4] == ["occlusion", "distortion", "normals", "plane_smoothness"]
    assert names[4:] == [
        *("depth", "smoothness", "semantic", "diffusion", "consistency"),
        *("edge_smoothness", "silhouette"),
    ]
    assert not any(config.enabled for config in prior_configs(FewShotPipelineConfig()).values())

    @dataclass
    class Config(FewShotPipelineConfig):
        """A pipeline of somebody else's."""

        later: RecorderConfig = field(default_factory=RecorderConfig)
        number: int = 3

    assert list(prior_configs(Config())) == [*names, "later"]


def test_a_prior_without_a_term_says_so() -> None:
    prior = Prior(PriorConfig(enabled=True), scene_of(), "nothing")
    assert prior.request(0) is None and prior.resolved() == {} and prior.needs == Needs()
    with pytest.raises(TypeError, match="Prior has to define loss_dict"):
        prior.loss_dict(0, context_of(pixels_of(torch.ones(1, 1))))


def serves_nothing(name: str) -> Optional[str]:
    return f"this backbone has no {name}"


def serves_all(name: str) -> Optional[str]:
    return None


def test_what_the_backbone_does_not_serve_is_refused_with_reason_and_way_out() -> None:
    priors = set_of(
        my_prior=RecorderConfig(served={"planes": "it looks at planes"}, alternative="train something else")
    )
    with pytest.raises(ValueError) as caught:
        priors.check(serves_nothing, num_scenes=1, takes_requests=True)
    assert str(caught.value) == (
        "--pipeline.my-prior.enabled: it looks at planes, and this backbone has no planes; train something else"
    )
    priors.check(serves_all, num_scenes=1, takes_requests=True)
    assert priors.served() == {"planes"}


@pytest.mark.parametrize("kind", ["pixels", "cameras"])
def test_requests_are_refused_where_batches_have_no_room(kind: Any) -> None:
    priors = set_of(mine=RecorderConfig(asks=kind, alternative="train on one scene"))
    with pytest.raises(
        ValueError,
        match=f"--pipeline.mine.enabled: the prior asks for {kind} of one scene in every batch, and batches of many "
        "scenes have no room for them; train on one scene",
    ):
        priors.check(serves_all, num_scenes=1, takes_requests=False)
    priors.check(serves_all, num_scenes=1, takes_requests=True)


@pytest.mark.parametrize("count", [0, 2, 100])
def test_another_number_of_scenes_than_one_is_refused(count: int) -> None:
    with pytest.raises(
        ValueError,
        match=f"--pipeline.mine.enabled: expected one scene to train on, found {count}; name it by "
        "--pipeline.datamanager.scenes",
    ):
        set_of(mine=RecorderConfig()).check(serves_all, count, takes_requests=False)
    set_of(mine=RecorderConfig(single_scene=False)).check(serves_all, count, takes_requests=False)


def test_priors_that_are_off_need_nothing() -> None:
    off = RecorderConfig(enabled=False, served={"planes": "why"}, asks="pixels", labels=frozenset({"depth"}))
    priors = set_of(mine=off)
    priors.check(serves_nothing, num_scenes=7, takes_requests=False)
    priors.prepare()
    assert priors.enabled == [] and not priors.served() and not priors.labels()
    assert priors.requests(0, "pixels") == {} and priors.add_losses({}, 0, forbidden) == {}
    assert priors.resolved() == {"mine": {}} and Recorder.calls == []


def forbidden(name: str) -> Any:
    raise AssertionError(f"the context of {name} was asked for")


def test_labels_of_all_priors() -> None:
    priors = set_of(a=RecorderConfig(labels=frozenset({"depth"})), b=RecorderConfig(labels=frozenset({"normal"})))
    assert priors.labels() == {"depth", "normal"}


def test_order_of_requests_and_of_terms() -> None:
    """The order of the config's fields, not that of their names: random numbers are drawn in it."""
    priors = set_of(
        z=RecorderConfig(asks="cameras"),
        b=RecorderConfig(asks="pixels"),
        c=RecorderConfig(),
        a=RecorderConfig(asks="pixels"),
        d=RecorderConfig(asks="cameras"),
    )
    priors.prepare()
    assert list(priors.requests(0, "pixels")) == ["b", "a"]
    assert list(priors.requests(0, "cameras")) == ["z", "d"]
    asked: List[str] = []

    def context(name: str) -> Any:
        asked.append(name)
        return context_of(pixels_of(torch.ones(1, 1)))

    losses = priors.add_losses({}, 3, context)
    assert list(losses) == ["term_z", "term_b", "term_c", "term_a", "term_d"] and asked == list("zbcad")
    assert Recorder.calls == [
        *(f"prepare {name}" for name in "zbcad"),
        *(f"request {name}" for name in "bazd"),
        *(f"loss {name}" for name in "zbcad"),
    ]
    assert priors.resolved() == {name: {"name": name} for name in "zbcad"}


def test_pixels_are_asked_for_at_every_step_and_views_where_the_prior_counts() -> None:
    """Pixels serve the colour loss as well; a view that no term looks at would be rendered for nothing."""
    kind: Any
    for kind, expected in (("pixels", list(range(8))), ("cameras", [3, 5])):
        priors = set_of(mine=RecorderConfig(asks=kind, interval=2, start_step=2, stop_step=7))
        assert [step for step in range(8) if priors.requests(step, kind)] == expected
        other: Any = "cameras" if kind == "pixels" else "pixels"
        assert not any(priors.requests(step, other) for step in range(8))
        context = context_of(pixels_of(torch.ones(1, 1)))
        counted = [step for step in range(8) if priors.add_losses({}, step, lambda name, seen=context: seen)]
        assert counted == [3, 5]


def test_a_prior_may_ask_for_nothing_at_a_step() -> None:
    assert set_of(mine=RecorderConfig(asks="cameras", silent=True)).requests(0, "cameras") == {}
    assert Recorder.calls == ["request mine"]


def test_no_term_is_lost_under_the_name_of_another() -> None:
    context = context_of(pixels_of(torch.ones(1, 1)))
    priors = set_of(mine=RecorderConfig())
    own = {"rgb_loss": torch.ones(())}
    assert list(priors.add_losses(own, 0, lambda name: context)) == ["rgb_loss", "term_mine"] and list(own) == [
        "rgb_loss"
    ]
    with pytest.raises(ValueError, match=r"^--pipeline.mine: its term is called 'term_mine', as one of the model is$"):
        priors.add_losses({"term_mine": torch.ones(())}, 0, lambda name: context)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"start_step": 10, "stop_step": 5}, r"expected --pipeline.mine.stop-step beyond .*start-step \(10\), got 5"),
        (
            {"fade_start_step": 9, "fade_end_step": 3},
            r"expected --pipeline.mine.fade-end-step not before .*\(9\), got 3",
        ),
        ({"interval": 0}, r"expected --pipeline.mine.interval of at least 1, got 0"),
    ],
)
def test_schedules_that_mean_nothing(fields: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        set_of(mine=RecorderConfig(**fields))


def test_the_scene_that_is_shown_has_to_be_the_one_that_trains() -> None:
    priors = set_of(mine=RecorderConfig())
    priors.check(lambda name: None, num_scenes=1, takes_requests=True)
    with pytest.raises(ValueError, match=r"another one is trained on; name the scene by --pipeline.datamanager.scenes"):
        priors.check(lambda name: None, num_scenes=1, takes_requests=True, prior_scene_trains=False)
