"""Claims about the arms of the study of transfer that chapter 18 reads."""

import pytest
from tool import load_tool

study = load_tool("transfer_study")


@pytest.mark.parametrize("images", study.SIZES)
def test_no_arm_trains_on_a_class_of_the_source_and_all_see_the_same_images(images: int) -> None:
    for arm in study.ARMS:
        config = study.settings(arm, images, 0.05, 3)
        assert not {*config.chosen_classes()} & {*study.SOURCE.chosen_classes()}
        assert (config.train_images, config.seed) == (images, 3)


@pytest.mark.parametrize("images", study.SIZES)
def test_the_long_arm_sees_as_many_images_as_pretraining_and_transfer_together(images: int) -> None:
    short, long = (
        study.settings(arm, images, 0.05, 0).epochs * images
        for arm in ("everything", "from scratch, as long in all")
    )
    source = study.SOURCE.epochs * (25_000 - study.SOURCE.validation)
    assert long == short + source


@pytest.mark.parametrize("images", study.SIZES)
def test_at_the_end_the_arm_that_frees_stages_trains_them_all(images: int) -> None:
    config = study.settings("freed one by one", images, 0.05, 0)
    assert config.train_last + (config.epochs - 1) // config.unfreeze_every >= 6


def test_the_rate_is_chosen_by_the_images_held_out() -> None:
    def record(lr: float, validation: float, test: float) -> dict[str, object]:
        rows = [{"validation": {"accuracy": validation}}]
        return {"config": {"lr": lr}, "epochs": rows, "test": {"accuracy": test}}

    runs = [record(0.1, 0.5, 0.9), record(0.1, 0.6, 0.9), record(1.0, 0.7, 0.1)]
    assert study.chosen(runs) == 1.0
    diverged = {"config": {"lr": 1.0}, "epochs": [], "failed": "the loss became nan"}
    assert study.chosen([*runs, diverged]) == 0.1


def test_seeds_that_choose_do_not_judge() -> None:
    assert not {*study.CHOOSING} & {*study.JUDGING}
    assert len(study.JUDGING) >= 5


def test_of_a_long_run_every_tenth_epoch_is_kept_and_the_last() -> None:
    def record(asked: int, done: int) -> dict[str, object]:
        rows = [{"epoch": number} for number in range(1, done + 1)]
        return {"config": {"epochs": asked}, "epochs": rows, "arm": "any"}

    kept = [row["epoch"] for row in study.thinned(record(60, 43))["epochs"]]
    assert kept == [1, 10, 20, 30, 40, 43]
    assert study.thinned(record(29, 29)) == record(29, 29)
    assert study.thinned(record(60, 0)) == record(60, 0)
