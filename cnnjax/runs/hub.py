"""A model to a hub, with a card written from the record of its run."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from cnnjax.core.hub import PREFIX, hub_place, upload
from cnnjax.core.places import expanded
from cnnjax.core.storage import write_text
from cnnjax.models import Model
from cnnjax.runs.load import load, save
from cnnjax.runs.model_card import model_card


def push(run: Any, repository: str, *, private: bool = False, message: str = "") -> str:
    """Upload a model to the hub, for `cj.load("hf://owner/name")`.

    Uploaded are the files that `save` writes and a card, README.md, with what the run's record says
    of data, settings, measured values and versions. Who may write is known to huggingface_hub, by
    HF_TOKEN or `hf auth login`; HF_ENDPOINT names another hub.

    Args:
        run: what `fit` returned, a run directory, or a Model.
        repository: "owner/name", made if there is none.
        private: whether a repository that is made is private.
        message: of the commit; "" says which model.

    Returns:
        "hf://owner/name@COMMIT".

    Raises:
        ValueError: if the repository has another form, or the run is none.
        UnreadableModel: if there is no model.
        DownloadError: if the hub refuses it or cannot be reached.
    """
    place = hub_place(f"{PREFIX}{repository.removeprefix(PREFIX)}")
    if place.revision or place.file:
        raise ValueError(f"repository must be 'owner/name', got {repository!r}")
    directory = expanded(run) if isinstance(run, str | Path) else getattr(run, "directory", None)
    model = load(run) if isinstance(run, str | Path) else getattr(run, "model", run)
    if not isinstance(model, Model):
        raise ValueError(
            "run must be what cj.fit returned, a run directory or a Model, got "
            f"{type(run).__name__}"
        )
    with tempfile.TemporaryDirectory() as staged:
        save(model, staged)
        card = model_card(model, place.repository, Path(directory) if directory else None)
        write_text(Path(staged) / "README.md", card)
        commit = upload(Path(staged), place.repository, message or f"{model.spec.name}", private)
    return f"{PREFIX}{place.repository}@{commit}"
