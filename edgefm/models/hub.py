"""Files from the Hugging Face Hub or its local cache, without waiting where there is no network.

Not a loader: it answers with paths, and the folder loaders do the rest.

`HF_HUB_OFFLINE`, `HF_ENDPOINT`, `HF_TOKEN` and `HF_HOME` mean what they mean to huggingface_hub. Its look-ups retry for 23
seconds without a network; here one connection is tried first, for at most `PATIENCE` seconds, else the cache alone is asked.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from ..errors import InputError

PATIENCE = 3.0
CONFIGS = (
    "config.json",
    "open_clip_config.json",
    "preprocessor_config.json",
    "README.md",
    "adapter_config.json",  # of PEFT, and its weights beside
    "adapter_model.safetensors",
)
WEIGHTS = (
    "model.safetensors",
    "open_clip_model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "open_clip_pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "*.safetensors",
    "*.pth",
    "*.bin",
)


def reachable() -> bool:
    """Whether the hub may be asked (no `HF_HUB_OFFLINE`) and answers a connection within `PATIENCE` seconds."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    hub = urlsplit(constants.ENDPOINT)
    gate = urlsplit(getproxies().get(hub.scheme) or constants.ENDPOINT)
    address = (gate.hostname or "", gate.port or (443 if gate.scheme == "https" else 80))
    answered: list[bool] = []

    def connect() -> None:
        try:
            socket.create_connection(address, timeout=PATIENCE).close()
            answered.append(True)
        except OSError:
            pass

    # A thread, because the resolver of host names knows no timeout.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return bool(answered)


def fetch_folder(hub_id: str) -> Path:
    """The local folder of a hub model with its configurations and one form of its weights, safetensors first.

    Args:
        hub_id: `OWNER/NAME`, with `@REVISION` where not the main one.

    Raises:
        InputError: no such model, no access, or neither network nor cache.
    """
    from huggingface_hub import HfApi, snapshot_download

    repo, _, revision = hub_id.partition("@")
    with _translated(repo):
        if not reachable():
            return Path(snapshot_download(repo, revision=revision or None, local_files_only=True))
        names = HfApi().list_repo_files(repo, revision=revision or None)
        return Path(snapshot_download(repo, revision=revision or None, allow_patterns=_wanted(names)))


def fetch_file(repo: str, names: Sequence[str]) -> Path:
    """The first of `names` that the hub model `repo` has, as a local file; out of the cache where it is there.

    Raises:
        InputError: as `fetch_folder`.
    """
    from huggingface_hub import HfApi, errors, hf_hub_download, try_to_load_from_cache

    for name in names:
        cached = try_to_load_from_cache(repo, name)
        if isinstance(cached, str):
            return Path(cached)
    with _translated(repo):
        if not reachable():
            raise errors.LocalEntryNotFoundError(repo)
        there = HfApi().list_repo_files(repo)
        name = next((name for name in names if name in there), names[0])
        return Path(hf_hub_download(repo, name))


def _wanted(names: Sequence[str]) -> list[str]:
    weights: list[str] = []
    for pattern in WEIGHTS:
        weights = [name for name in names if fnmatch(name, pattern) and "/" not in name]
        if weights:
            break
    if weights and weights[0].endswith(".index.json"):
        suffix = weights[0].removesuffix(".index.json")[-len(".safetensors") :].rpartition(".")[2]
        weights += [name for name in names if name.endswith(f".{suffix}") and "/" not in name]
    return [name for name in CONFIGS if name in names] + weights


@contextmanager
def _translated(repo: str) -> Iterator[None]:
    from huggingface_hub import errors

    try:
        yield
    except errors.HFValidationError as error:
        raise InputError(f"{repo!r} is not a hub id", expected="hf-hub:OWNER/NAME") from error
    except errors.GatedRepoError as error:
        raise InputError(
            f"the hub model {repo} asks its users to accept its terms",
            do=f"accept them at https://huggingface.co/{repo} and log in with: hf auth login",
        ) from error
    except errors.LocalEntryNotFoundError as error:
        raise InputError(
            f"the hub model {repo} is not in this machine's cache, and the hub cannot be reached from here",
            do=f"on a machine with a network run: hf download {repo} --local-dir MODEL, and give the path of that folder",
        ) from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.EntryNotFoundError) as error:
        raise InputError(
            f"the hub has no model {repo}, or it is private", do="check the spelling, or log in with: hf auth login"
        ) from error
    except (errors.HfHubHTTPError, ConnectionError, TimeoutError) as error:
        raise InputError(
            f"the hub did not give {repo} ({error})", do="try again, or give the path of a local folder"
        ) from error
