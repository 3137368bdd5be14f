"""Training: it learns, it is reproducible, it resumes exactly, models A to D differ as Table 3 says."""

import dataclasses

import pytest
import torch

from r3dad import checkpoint
from r3dad.config import PaperConfig
from r3dad.errors import InputError
from r3dad.train import Batches, train


@pytest.fixture
def config(tiny):
    return PaperConfig(**tiny)


@pytest.fixture
def scans(good_scans):
    return [torch.from_numpy(s) for s in good_scans]


def _weights(model) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.state_dict().values()])


def test_loss_falls(scans, config, monkeypatch):
    seen = []
    config = dataclasses.replace(config, iterations=60, batch=4, learning_rate=3e-3)
    batches = Batches(scans, config, torch.device("cpu"))
    assert batches.draw(0)[0].shape == (4, 128, 3)
    monkeypatch.setattr("r3dad.train._SHOW_EVERY", 0.0)
    train(scans, config, progress=lambda share, words: seen.append(float(words.split()[1])))
    assert len(seen) == 60
    assert sum(seen[-15:]) < 0.75 * sum(seen[:15])


@pytest.mark.parametrize("model", "ABCD")
def test_every_model_of_table_3_trains_and_only_d_moves_patches(scans, config, model):
    config = dataclasses.replace(config, model=model)
    good, defective, _, t = Batches(scans, config, torch.device("cpu")).draw(0)
    assert torch.equal(good, defective) == (model != "D")
    assert (t >= 1).all() and (t <= config.steps).all()
    trained = train(scans, config)
    assert (trained.encoder is None) == (model == "A")
    assert not trained.training and torch.isfinite(_weights(trained)).all()


def test_same_seed_same_weights_other_seed_others(scans, config):
    a, b = train(scans, config), train(scans, config)
    assert torch.equal(_weights(a), _weights(b))
    assert not torch.equal(_weights(a), _weights(train(scans, dataclasses.replace(config, seed=1))))


def test_interrupted_training_resumes_to_the_same_weights(scans, config, tmp_path, monkeypatch):
    config = dataclasses.replace(config, iterations=6)
    whole = train(scans, config)
    state = tmp_path / "state"
    calls = []

    def interrupt(share, words):
        calls.append(share)
        if share >= 0.5:
            raise KeyboardInterrupt

    monkeypatch.setattr("r3dad.train._SHOW_EVERY", 0.0)
    with pytest.raises(KeyboardInterrupt):
        train(scans, config, progress=interrupt, resume=state)
    assert checkpoint.load(state, "training")[1]["iteration"] == 3
    assert torch.equal(_weights(train(scans, config, resume=state)), _weights(whole))
    assert not state.exists()


def test_state_of_other_settings_is_refused(scans, config, tmp_path):
    state = tmp_path / "state"
    checkpoint.save(state, "training", {}, {"config": {}, "iteration": 1})
    with pytest.raises(InputError, match="other settings"):
        train(scans, config, resume=state)


def test_scan_smaller_than_a_batch_cloud_is_repeated(config):
    cloud = torch.rand(50, 3).double()
    good, _, _, _ = Batches([cloud], config, torch.device("cpu")).draw(0)
    assert good.shape == (2, 128, 3)


@pytest.mark.parametrize(
    "wrong", [{"model": "E"}, {"points": 0}, {"neighbours": 500}, {"patch_ratio": 0.0}, {"precision": "int4"}]
)
def test_impossible_settings_are_refused_in_words(tiny, wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        PaperConfig(**{**tiny, **wrong})


def test_bfloat16_training_stays_close_to_float32(scans, config):
    config = dataclasses.replace(config, iterations=30, batch=8)
    losses = {}
    for precision in ("float32", "bfloat16"):
        last = []
        train(
            scans,
            dataclasses.replace(config, precision=precision),
            progress=lambda share, words, last=last: last.append(float(words.split()[1])),
        )
        losses[precision] = last[-1]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.25)
