"""Weights that a run begins with: from a file of an earlier run, or torchvision's.

It rests on torch, on torchvision and on the networks beside it.
"""

from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path

import torch
from torch import nn

from ngs.errors import InputError
from ngs.train.checkpoint import unpacked
from ngs.train.models.bigger import PREFIX
from ngs.train.models.stages import head_name
from ngs.train.vision import torchvision

TORCHVISION = "torchvision"
"""What a run names instead of a file for torchvision's own weights."""

Weights = Mapping[str, torch.Tensor]


def load_initial(
    model: nn.Module, name: str, init: str, *, new_head: bool, download: bool = True
) -> None:
    """Give a network the weights that a run begins with.

    Args:
        model: freshly initialised; is changed in place.
        name: of the network, see :func:`ngs.train.models.build`.
        init: a file that ``ngs train`` has written, weights or the checkpoint of an unfinished run
            (what its parameters held: for ``NGS`` the look-ahead point); or ``"torchvision"`` for
            the best weights that torchvision has for the network.
        new_head: whether the last layer stays freshly initialised; then the weights may be of
            another number of classes.
        download: whether torchvision's weights may be fetched.

    Raises:
        InputError: the weights cannot be had, or are those of another network.
    """
    theirs = init == TORCHVISION
    weights = fetch_weights(name, download=download) if theirs else read_weights(Path(init))
    own = model.state_dict()
    kept = {key for key in own if new_head and key.rpartition(".")[0] == head_name(model)}
    wanted = [key for key in own if key not in kept]
    for key in wanted:
        if key not in weights:
            raise InputError(f"init {init} has no {key}, which model {name} has: {REMEDY}")
        if weights[key].shape != own[key].shape:
            there, here = tuple(weights[key].shape), tuple(own[key].shape)
            raise InputError(
                f"init {init} has {key} of shape {there}, and model {name} of {here}: {REMEDY}"
            )
    foreign = next((key for key in weights if key not in own), None)
    if foreign is not None and not theirs:  # theirs have second outputs that are not built here
        raise InputError(f"init {init} has {foreign}, which model {name} has not: {REMEDY}")
    model.load_state_dict({**own, **{key: weights[key] for key in wanted}})


REMEDY = (
    "give the model that it was trained as, and --new-head where the number of classes is another"
)


def read_weights(path: Path) -> Weights:
    """Return the weights in a file that ``ngs train`` has written.

    Raises:
        InputError: there is no such file, it is damaged, or it holds something else.
    """
    if not path.is_file():
        raise InputError(
            f"init: there is no file {path}: name weights that a run has written, or {TORCHVISION}"
        )
    try:
        content = unpacked(path)
        weights = content["state"]["model"] if "state" in content else content
        if not all(isinstance(value, torch.Tensor) for value in weights.values()):
            raise TypeError
    except Exception as error:  # whatever torch, zipfile and pickle raise for it
        raise InputError(
            f"init: {path} cannot be read: it is damaged, or holds no weights of ngs train"
        ) from error
    found: Weights = weights
    return found


def fetch_weights(name: str, *, download: bool = True) -> Weights:
    """Return the weights that torchvision has for one of its networks, checked by their hash.

    Raises:
        InputError: it is none of its networks, or they are not here and cannot be fetched.
    """
    if not name.startswith(PREFIX):
        raise InputError(
            f"init {TORCHVISION} is for the models {PREFIX}..., got model {name}: its layers are "
            "not those of torchvision"
        )
    weights = torchvision().models.get_model_weights(name.removeprefix(PREFIX)).DEFAULT
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    why = "downloading was not allowed"
    if download or file.is_file():
        try:
            found: Weights = weights.get_state_dict(check_hash=True, weights_only=True)
            return found
        except (OSError, HTTPException, RuntimeError, EOFError) as error:
            why = " ".join(str(error).split())[:120] or type(error).__name__
    raise InputError(
        f"torchvision's weights for {name} could not be fetched ({why}): put {file.name} from "
        f"{weights.url.rpartition('/')[0]} into {file.parent}, or leave init out"
    )
