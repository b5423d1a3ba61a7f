"""The folder of a checkpoint, given or downloaded from the hub, and where it came from.

Where it came from decides whether its code may run: downloaded code needs somebody's trust.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from b1k_envs.errors import UnavailableError, UsageError
from b1k_policies.contract.reading import CONFIG_FILE, read_folder, read_json

INSTALL = "pip install '.[xvla]' in the checkout"
PICKLES: tuple[str, ...] = ("*.bin", "*.pt", "*.pth", "*.ckpt")

SHIPPED = Path(__file__).parents[2] / "shipped"
"""Checkpoints that lie in the package: each folder in it is a name for `--ckpt`."""

_HUB_ID = re.compile(r"(?P<repo>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>[^@\s]+))?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_GIT_REMOTE = re.compile(r"^\s*\[remote\b[^[]*^\s*url\s*=", re.MULTILINE | re.IGNORECASE)
_STATED = ("*.json",)  # the files that state the contract
_PATTERNS = (*_STATED, "*.safetensors", "*.txt", "*.model", "*.py", "*.md", "code/**")
_NEVER_UNASKED = (*PICKLES, "*.pkl", "*.pickle")
_USUAL_PICKLES = "pytorch_model*.bin*"
"""Name that transformers gives to pickled weights, with shards and their index."""
_HUB_TIMEOUT_S = 10.0  # by default the library waits for as long as the network stack does


class CheckpointError(UnavailableError):
    """A checkpoint's weights, code or tokenizer cannot be used. Exit code 4."""


@dataclass(frozen=True, kw_only=True)
class CheckpointFolder:
    """A folder that holds a checkpoint, and where it came from.

    Attributes:
        folder: The folder.
        origin: Its name for people: hub id or folder name.
        repo: `org/name` on the hub, if known.
        revision: Commit hash on the hub, 40 hex digits, if known.
        downloaded: Whether it came from a hub as it is, so that nobody here wrote its code.
        remarks: What a person should know about how it was found.
    """

    folder: Path
    origin: str
    repo: str | None = None
    revision: str | None = None
    downloaded: bool = False
    remarks: tuple[str, ...] = ()


def find_folder(ckpt: str, *, allow_pickle: bool = False, weights: bool = True) -> CheckpointFolder:
    """Find the folder of a checkpoint, downloading it if need be.

    Args:
        ckpt: Folder, name of a shipped checkpoint, or hub id `org/name[@revision]`.
        allow_pickle: Whether to download every pickle. Without it pickled weights are downloaded
            only if there are no others, as they are read without running them.
        weights: Whether to download more than the JSON files, which state the contract.

    Raises:
        UsageError: Neither a folder nor a hub id, or a folder without config.json.
        UnavailableError: huggingface_hub is not installed.
        CheckpointError: The hub cannot be reached, or does not give the checkpoint.
    """
    folder, match = Path(ckpt), _HUB_ID.fullmatch(ckpt)
    if ckpt and folder.is_dir():  # not for "": Path("") is the current directory
        found = _local(folder)
    elif folder.is_file():
        raise UsageError(f"--ckpt {ckpt!r} is a file; give the folder it lies in")
    elif ckpt in shipped():
        found = CheckpointFolder(folder=SHIPPED / ckpt, origin=ckpt)
    elif match is not None:
        ignored = () if allow_pickle else _NEVER_UNASKED
        wanted = (*_PATTERNS, *(PICKLES if allow_pickle else ())) if weights else _STATED
        found = _from_hub(ckpt, match["repo"], match["revision"], wanted, ignored)
    else:
        raise _neither(ckpt)
    _refuse_neighbours(found.folder)
    read_folder(found.folder)  # refuses a folder without config.json
    return found


def shipped() -> tuple[str, ...]:
    """Names of the checkpoints that lie in the package."""
    return tuple(sorted(path.parent.name for path in SHIPPED.glob(f"*/{CONFIG_FILE}")))


def _refuse_neighbours(folder: Path) -> None:
    """Refuse, by name, what looks like a checkpoint and belongs to another program.

    LeRobot's policies state their `type` in config.json, and scale states and actions in processors
    saved beside the weights: `policy_preprocessor.json`, `policy_postprocessor.json`.
    """
    config = folder / CONFIG_FILE
    stated = read_json(config) if config.is_file() else {}
    processors = [path.name for path in sorted(folder.glob("policy_p*processor.json"))]
    kind = stated.get("type")
    if processors or (isinstance(kind, str) and "model_type" not in stated):
        marks = [*processors, *([f"type {kind!r} in {CONFIG_FILE}"] if kind else [])]
        raise CheckpointError(
            f"{folder} is a policy of LeRobot ({', '.join(marks)}), whose processors scale states "
            "and actions and are not run here: serve it with LeRobot behind openpi's WebSocket "
            "protocol (docs/server.md) and pass --policy ws://HOST:PORT in place of --ckpt"
        )


# --- the folder ------------------------------------------------------------------------------


def _near_folder(word: str) -> str:
    parent = Path(word).parent
    if not parent.is_dir():
        return ""
    siblings = [entry.name for entry in parent.iterdir() if entry.is_dir()]
    near = difflib.get_close_matches(Path(word).name, siblings, n=1)
    return f"; did you mean {parent / near[0]}?" if near else ""


def _neither(word: str) -> UsageError:
    ours = difflib.get_close_matches(word, shipped(), n=1)
    return UsageError(
        f"--ckpt {word!r} is neither a folder nor a hub id (org/name or org/name@revision), nor "
        f"one that comes with this package ({', '.join(shipped())})"
        f"{f'; did you mean {ours[0]}?' if ours else _near_folder(word)}"
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
    """Return (repo, commit), as far as known, if the folder was downloaded, else None.

    Three layouts: `models--ORG--NAME/snapshots/COMMIT` of the cache of huggingface_hub;
    `.cache/huggingface`, which `hf download --local-dir` leaves in the folder it fills; and
    `git clone`. Above the folder itself only a record of downloads counts: ~/.cache/huggingface is
    the cache itself, and a project that is a git checkout may well have checkpoints of its own.
    """
    for place in (folder.absolute(), folder.resolve()):  # a link into the cache counts, too
        for parent in (place, *place.parents):
            cached = parent.parent.parent.name
            if parent.parent.name == "snapshots" and cached.startswith("models--"):
                repo = cached.removeprefix("models--").replace("--", "/", 1)
                return repo, parent.name if _COMMIT.fullmatch(parent.name) else None
            mark = parent / ".cache" / "huggingface"
            if (mark / "download").is_dir() or (parent == place and mark.is_dir()):
                return None, _commit_of(mark / "download")
        if is_clone(place):
            return None, None
    return None


def is_clone(folder: Path) -> bool:
    """Whether a folder is a checkpoint and the root of a git checkout with a remote."""
    git = folder / ".git"
    if not (folder / CONFIG_FILE).is_file():
        return False
    if git.is_file():  # a submodule or linked worktree has a file that says where the folder is
        git = folder / git.read_text("utf-8", "replace").partition(":")[2].strip()
        common = git / "commondir"
        git = git / common.read_text("utf-8", "replace").strip() if common.is_file() else git
    config = git / "config"
    return config.is_file() and (
        _GIT_REMOTE.search(config.read_text("utf-8", "replace")) is not None
    )


def _commit_of(record: Path) -> str | None:
    """Return the commit of all files of a `--local-dir` download, or None if they differ."""
    commits = {path.read_text("utf-8").partition("\n")[0] for path in record.rglob("*.metadata")}
    commit = commits.pop() if len(commits) == 1 else ""
    return commit if _COMMIT.fullmatch(commit) else None


# --- the hub ---------------------------------------------------------------------------------


def _from_hub(
    word: str,
    repo: str,
    revision: str | None,
    wanted: tuple[str, ...],
    ignored: tuple[str, ...],
) -> CheckpointFolder:
    try:
        from huggingface_hub import HfApi, snapshot_download
    except ImportError as error:
        raise UnavailableError(
            f"--ckpt {word}: a hub id needs huggingface_hub, which is not installed: {INSTALL}; "
            f"or give a folder"
        ) from error
    unreachable = None
    # Network errors depend on the HTTP library under huggingface_hub, which has changed twice;
    # hence `Exception`, and the cause is kept.
    try:
        info = HfApi().model_info(repo, revision=revision, timeout=_HUB_TIMEOUT_S)
        files = [file.rfilename for file in info.siblings or ()]
        # Without safetensors, the usual pickles are downloaded too: they are read without running.
        if not any(fnmatch(name, "*.safetensors") for name in files):
            usual = [name for name in files if fnmatch(name, _USUAL_PICKLES)]
            kept = [name for name in files if not any(fnmatch(name, p) for p in ignored)]
            wanted = tuple(n for n in kept if any(fnmatch(n, p) for p in wanted)) + tuple(usual)
            ignored = ()
    except Exception as error:
        refusal = _refusal(word, repo, revision, error)
        if refusal is not None:  # the hub answered: what the cache holds is not what was asked for
            raise refusal from error
        unreachable = error
    try:
        snapshot = snapshot_download(
            repo,
            revision=revision,  # the name, not the hash: the cache knows which hash it stood for
            allow_patterns=list(wanted),
            ignore_patterns=list(ignored),
            local_files_only=unreachable is not None,
        )
    except Exception as error:  # noqa: BLE001
        raise _not_had(word, repo, revision, unreachable, error) from (unreachable or error)
    folder = Path(snapshot)
    cached = f"; the cached commit {folder.name} is used, which may not be the newest"
    return CheckpointFolder(
        folder=folder,
        origin=word,
        repo=repo,
        revision=folder.name,
        downloaded=True,
        remarks=() if unreachable is None else (f"{word}: {_silence(unreachable)}{cached}",),
    )


def _status(error: Exception) -> int | None:
    """Return the HTTP status of the hub's answer, or None if there was no answer."""
    from huggingface_hub import errors

    response = error.response if isinstance(error, errors.HfHubHTTPError) else None
    return None if response is None else int(response.status_code)


def _refusal(
    word: str, repo: str, revision: str | None, error: Exception
) -> CheckpointError | UsageError | None:
    """Return the error for a hub that was reached and refused; None if it was not reached."""
    from huggingface_hub import constants, errors

    hub = constants.ENDPOINT
    if isinstance(error, errors.HFValidationError):
        return _neither(word)
    if isinstance(error, errors.GatedRepoError):
        return CheckpointError(
            f"{word}: access is restricted; ask for it at {hub}/{repo}, then log in with "
            f"`hf auth login` or set HF_TOKEN"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return CheckpointError(
            f"{word}: neither a folder here nor a model on the hub ({hub}), or a private one: then "
            f"log in with `hf auth login` or set HF_TOKEN{_near_folder(word)}"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return CheckpointError(
            f"{word}: {repo} has no revision {revision or 'main'!r} on the hub ({hub}); give "
            f"a branch, a tag or a full commit hash"
        )
    status = _status(error)
    if status is None or status >= 500:
        return None
    return CheckpointError(
        f"{word}: the hub ({hub}) refuses it with HTTP {status}; log in with `hf auth login` or "
        f"set HF_TOKEN, or give a folder"
    )


def _not_had(
    word: str, repo: str, revision: str | None, unreachable: Exception | None, error: Exception
) -> CheckpointError | UsageError:
    """Return the error for a checkpoint that neither the hub nor the cache gives."""
    from huggingface_hub import constants

    if unreachable is None:
        return _refusal(word, repo, revision, error) or CheckpointError(
            f"{word}: the download broke off ({type(error).__name__}: {error}); run it again, it "
            f"goes on where it stopped"
        )
    complete = "complete " if getattr(error, "snapshot_path", None) is not None else ""
    return CheckpointError(
        f"{word}: no folder here; {_silence(unreachable)}, not {complete}in the cache "
        f"({constants.HF_HUB_CACHE}); download it elsewhere and give the folder"
        f"{_near_folder(word)}"
    )


def _silence(unreachable: Exception) -> str:
    """Say why the hub could not be reached."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "the hub is switched off (HF_HUB_OFFLINE)"
    status = _status(unreachable)
    if status is not None:
        return f"the hub ({constants.ENDPOINT}) answered HTTP {status}"
    return f"cannot reach the hub ({constants.ENDPOINT})"
