"""The folder of a checkpoint: given as one, or downloaded from the hub, and where it came from.

That matters beyond the record: code that was downloaded was written by nobody here.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path

from b1k_envs.errors import UnavailableError, UsageError
from b1k_policies.contract_sources import read_folder

INSTALL = "pip install 'b1k-eval[xvla]'"
PICKLES: tuple[str, ...] = ("*.bin", "*.pt", "*.pth", "*.ckpt")

_HUB_ID = re.compile(r"(?P<repo>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>[^@\s]+))?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_PATTERNS = ("*.json", "*.safetensors", "*.txt", "*.model", "*.py", "*.md")
_HUB_TIMEOUT_S = 10.0  # the library's own default is to wait for as long as the network stack does


class CheckpointError(UnavailableError):
    """Weights, code or tokenizer of a checkpoint that cannot be used. Exit code 4."""


@dataclass(frozen=True, kw_only=True)
class CheckpointFolder:
    """A folder that holds a checkpoint, and where it came from.

    Attributes:
        folder: The folder.
        origin: What to call it for people: hub id or folder name.
        repo: `org/name` on the hub, when known.
        revision: Commit hash on the hub, 40 hex digits, when known.
        downloaded: Whether it is as it came from a hub, so that nobody here wrote its code.
    """

    folder: Path
    origin: str
    repo: str | None = None
    revision: str | None = None
    downloaded: bool = False


def find_folder(ckpt: str, *, allow_pickle: bool = False) -> CheckpointFolder:
    """The folder of a checkpoint, downloaded if need be; enough to read its contract.

    Args:
        ckpt: Folder, or hub id `org/name[@revision]`.
        allow_pickle: Whether to download pickled weights as well.

    Raises:
        UsageError: Neither a folder nor a hub id, or a folder without config.json.
        UnavailableError: huggingface_hub is not installed.
        CheckpointError: The hub cannot be reached, or does not give the checkpoint.
    """
    folder, match = Path(ckpt), _HUB_ID.fullmatch(ckpt)
    if folder.is_dir():
        found = _local(folder)
    elif folder.is_file():
        raise UsageError(f"--ckpt {ckpt!r} is a file; give the folder it lies in")
    elif match is not None:
        found = _from_hub(ckpt, match["repo"], match["revision"], allow_pickle)
    else:
        raise _neither(ckpt)
    read_folder(found.folder)  # refuses a folder without config.json
    return found


# --- the folder ------------------------------------------------------------------------------


def _near_folder(word: str) -> str:
    parent = Path(word).parent
    if not parent.is_dir():
        return ""
    siblings = [entry.name for entry in parent.iterdir() if entry.is_dir()]
    near = difflib.get_close_matches(Path(word).name, siblings, n=1)
    return f"; did you mean {parent / near[0]}?" if near else ""


def _neither(word: str) -> UsageError:
    return UsageError(
        f"--ckpt {word!r} is neither a folder nor a hub id (org/name or org/name@revision)"
        f"{_near_folder(word)}"
    )


def _local(folder: Path) -> CheckpointFolder:
    folder = folder.absolute()
    download = download_of(folder)
    if download is None:
        return CheckpointFolder(folder=folder, origin=folder.resolve().name)
    repo, revision = download
    return CheckpointFolder(
        folder=folder,
        origin=repo or folder.resolve().name,
        repo=repo,
        revision=revision,
        downloaded=True,
    )


def download_of(folder: Path) -> tuple[str | None, str | None] | None:
    """(repo, commit) if the folder lies in what huggingface_hub downloaded, else None.

    Two layouts: `models--ORG--NAME/snapshots/COMMIT` of its cache, and `.cache/huggingface`, which
    `hf download --local-dir` leaves in the folder it fills. Above that folder only its record of
    downloads counts, as ~/.cache/huggingface is the cache itself.
    """
    for place in (folder.absolute(), folder.resolve()):  # a link into the cache counts as well
        for parent in (place, *place.parents):
            cached = parent.parent.parent.name
            if parent.parent.name == "snapshots" and cached.startswith("models--"):
                repo = cached.removeprefix("models--").replace("--", "/", 1)
                return repo, parent.name if _COMMIT.fullmatch(parent.name) else None
            mark = parent / ".cache" / "huggingface"
            if (mark / "download").is_dir() or (parent == place and mark.is_dir()):
                return None, _commit_of(mark / "download")
    return None


def _commit_of(record: Path) -> str | None:
    """The commit that all files of a `--local-dir` download came from, if it is one."""
    commits = {path.read_text("utf-8").partition("\n")[0] for path in record.rglob("*.metadata")}
    commit = commits.pop() if len(commits) == 1 else ""
    return commit if _COMMIT.fullmatch(commit) else None


# --- the hub ---------------------------------------------------------------------------------


def _from_hub(word: str, repo: str, revision: str | None, allow_pickle: bool) -> CheckpointFolder:
    try:
        from huggingface_hub import HfApi, snapshot_download
    except ImportError as error:
        raise UnavailableError(
            f"--ckpt {word}: a hub id needs huggingface_hub, which is not installed: {INSTALL}; "
            f"or give a folder"
        ) from error
    unreachable = None
    # What a network raises depends on the HTTP library under huggingface_hub, and that has changed
    # twice; hence `Exception`, and the cause is kept.
    try:
        HfApi().model_info(repo, revision=revision, timeout=_HUB_TIMEOUT_S)
    except Exception as error:  # noqa: BLE001
        unreachable = error
    patterns = [*_PATTERNS, *(PICKLES if allow_pickle else ())]
    try:
        snapshot = snapshot_download(
            repo,
            revision=revision,  # not the hash: the cache notes which hash the name stood for
            allow_patterns=patterns,
            local_files_only=unreachable is not None,
        )
    except Exception as error:  # noqa: BLE001
        raise _hub_error(word, repo, revision, unreachable, error) from (unreachable or error)
    folder = Path(snapshot)
    return CheckpointFolder(
        folder=folder, origin=word, repo=repo, revision=folder.name, downloaded=True
    )


def _hub_error(
    word: str, repo: str, revision: str | None, unreachable: Exception | None, error: Exception
) -> CheckpointError | UsageError:
    """What to tell a person when neither the hub nor the cache gives the checkpoint."""
    from huggingface_hub import constants, errors

    hub = constants.ENDPOINT
    cause = unreachable or error
    if isinstance(cause, errors.HFValidationError):
        return _neither(word)
    if isinstance(cause, errors.GatedRepoError):
        return CheckpointError(
            f"{word}: access is restricted; ask for it at {hub}/{repo}, then log in with "
            f"`hf auth login` or set HF_TOKEN"
        )
    if isinstance(cause, errors.RepositoryNotFoundError):
        return CheckpointError(
            f"{word}: neither a folder here nor a model on the hub ({hub}), or a private one: then "
            f"log in with `hf auth login` or set HF_TOKEN{_near_folder(word)}"
        )
    if isinstance(cause, errors.RevisionNotFoundError):
        return CheckpointError(
            f"{word}: {repo} has no revision {revision!r} on the hub ({hub}); give a branch, a tag "
            f"or a full commit hash"
        )
    if unreachable is None:
        return CheckpointError(
            f"{word}: the download broke off ({type(error).__name__}: {error}); run it again, it "
            f"goes on where it stopped"
        )
    if getattr(error, "snapshot_path", None) is not None:
        kept = f"not complete in the cache ({constants.HF_HUB_CACHE})"
    else:
        kept = f"not in the cache ({constants.HF_HUB_CACHE})"
    if constants.HF_HUB_OFFLINE:
        why = "the hub is switched off (HF_HUB_OFFLINE)"
    elif isinstance(cause, errors.HfHubHTTPError):
        why = f"the hub ({hub}) answered HTTP {cause.response.status_code}"
    else:
        why = f"cannot reach the hub ({hub})"
    return CheckpointError(
        f"{word}: no folder here; {why}, {kept}; download it elsewhere and give the folder"
        f"{_near_folder(word)}"
    )
