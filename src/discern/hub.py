"""The hub: files of published repositories, fetched once and kept in the hub's own cache."""

from __future__ import annotations

from pathlib import Path

PATIENCE = 10.0
"""Seconds to wait for a hub that does not answer."""


def fetched(repository: str, file: str) -> Path:
    """A file of a model repository (`owner/name`, or `owner/name@revision`), from the cache or from the network.

    Raises what the hub's client raises, of all kinds, without waiting for a network that is not there.
    """
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    name, _, revision = repository.partition("@")
    try:
        return Path(hf_hub_download(name, file, revision=revision or None, local_files_only=True))
    except LocalEntryNotFoundError:
        pass
    # Asked first, as this fails at once; a download tries again and again, and says so each time.
    HfApi().model_info(name, revision=revision or None, timeout=PATIENCE)
    return Path(hf_hub_download(name, file, revision=revision or None, etag_timeout=PATIENCE))
