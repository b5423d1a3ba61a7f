"""Where a checkpoint comes from: a folder, the hub, and whether it was downloaded."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from checkpoint_files import found, refused, write_checkpoint, write_code

from b1k_envs.errors import UnavailableError, UsageError
from b1k_policies.xvla.files.checkpoint import CheckpointError
from b1k_policies.xvla.files.folder import find_folder, shipped

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TAGGED = "89abcdef0123456789abcdef0123456789abcdef"
REVISIONS = {"main": COMMIT, COMMIT: COMMIT, "v1": TAGGED}


@pytest.fixture
def folder(tmp_path):
    return write_checkpoint(tmp_path / "ckpt")


# --- the folder ------------------------------------------------------------------------------


def test_a_plain_folder_is_found_and_its_code_needs_no_trust(folder):
    checkpoint = found(folder)
    assert checkpoint.folder == folder
    assert (checkpoint.origin, checkpoint.repo, checkpoint.revision) == ("ckpt", None, None)
    assert not checkpoint.downloaded
    assert checkpoint.weights == (folder / "model.safetensors",)
    assert checkpoint.weights_format == "safetensors"
    assert checkpoint.code_root == folder / "code" / "da3_xvla"


def test_a_misspelt_folder_is_answered_with_the_nearest_one(folder):
    with pytest.raises(UsageError) as caught:
        found(folder.parent / "chkpt")
    assert str(caught.value) == (
        f"--ckpt '{folder.parent}/chkpt' is neither a folder nor a hub id (org/name or "
        f"org/name@revision), nor one that comes with this package ({', '.join(shipped())}); "
        f"did you mean {folder}?"
    )


def test_the_package_s_own_checkpoints_are_found_by_name_and_answered_if_misspelt():
    assert "twin-v17" in shipped()
    checkpoint = found("twin-v17")
    assert (checkpoint.origin, checkpoint.downloaded) == ("twin-v17", False)
    assert sum(path.stat().st_size for path in checkpoint.weights) < 10_000_000
    with pytest.raises(UsageError, match=r"\(twin-v17.*\); did you mean twin-v17\?$"):
        found("twin-17")


def test_a_file_is_answered_with_a_request_for_its_folder(folder):
    with pytest.raises(UsageError, match=r"is a file; give the folder it lies in"):
        found(folder / "model.safetensors")


def test_an_empty_word_is_not_the_current_directory(folder, monkeypatch):
    monkeypatch.chdir(folder)
    with pytest.raises(UsageError, match=r"--ckpt '' is neither a folder nor a hub id"):
        find_folder("")


def test_a_folder_without_config_is_no_checkpoint(folder):
    (folder / "config.json").unlink()
    with pytest.raises(UsageError, match=r"has no config\.json, so it is no checkpoint folder"):
        found(folder)


# --- what was downloaded ---------------------------------------------------------------------


@pytest.fixture
def cached(tmp_path):
    """A checkpoint as it lies in the cache of huggingface_hub."""
    return write_checkpoint(tmp_path / "hub" / "models--org--da3--x" / "snapshots" / COMMIT)


def test_code_in_the_cache_of_the_hub_must_be_trusted(cached):
    with pytest.raises(CheckpointError) as caught:
        found(cached)
    trusted = found(cached, trust_code=True)
    assert str(caught.value) == (
        f"org/da3--x: the code in {cached}/code/da3_xvla (sha256 {trusted.code_sha256}) was "
        f"downloaded and would run with your rights; read it and pass --trust-checkpoint-code, or "
        f"pass --code-dir with your own copy"
    )
    assert (trusted.repo, trusted.revision, trusted.downloaded) == ("org/da3--x", COMMIT, True)


def test_a_link_into_the_cache_and_a_folder_deeper_in_it_count_as_downloaded(cached, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(cached)
    refused(link, "was downloaded")
    deeper = write_checkpoint(cached / "step-2")
    refused(deeper, "was downloaded")


def test_code_of_another_download_must_be_trusted_too(folder, cached):
    refused(folder, "was downloaded", code_dir=str(cached / "code"))


def test_own_code_for_a_downloaded_checkpoint_needs_no_trust(cached, tmp_path):
    mine = write_code(tmp_path / "mine")
    checkpoint = found(cached, code_dir=str(mine))
    assert checkpoint.downloaded
    assert checkpoint.code_root == mine


def test_the_mark_of_a_download_in_the_folder_itself_is_enough(folder):
    (folder / ".cache" / "huggingface").mkdir(parents=True)
    refused(folder, "was downloaded")
    assert found(folder, trust_code=True).revision is None


def test_the_cache_in_the_home_folder_makes_no_download_of_what_lies_beside_it(folder):
    (folder.parent / ".cache" / "huggingface" / "hub").mkdir(parents=True)
    assert not found(folder).downloaded


def git(folder, *words):
    """Run git on a folder, as if nobody had configured it."""
    nobody = {
        f"GIT_{who}_{what}": "x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    kept = {k: v for k, v in os.environ.items() if k[:4] != "GIT_"}
    bare = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    subprocess.run(
        ["git", "-C", folder, *words],
        env={**kept, **nobody, **bare},
        check=True,
        capture_output=True,
        timeout=60,
    )


REMOTE = ("remote", "add", "origin", "https://huggingface.co/org/name")


def test_code_in_a_git_clone_must_be_trusted_and_in_a_repository_without_remote_not(folder):
    git(folder, "init")
    git(folder, "config", "user.url", "https://nowhere")
    assert not found(folder).downloaded
    git(folder, *REMOTE)
    refused(folder, "was downloaded and would run with your rights")
    trusted = found(folder, trust_code=True)
    assert (trusted.origin, trusted.repo, trusted.revision) == ("ckpt", None, None)
    assert trusted.downloaded


def test_a_clone_whose_git_folder_lies_elsewhere_is_one_too(folder, tmp_path):
    git(folder, "init", "--separate-git-dir", tmp_path / "apart")
    assert not found(folder).downloaded
    git(folder, *REMOTE)
    refused(folder, "was downloaded")
    git(folder, "commit", "--allow-empty", "-m", "x")
    git(folder, "worktree", "add", tmp_path / "linked")
    refused(write_checkpoint(tmp_path / "linked"), "was downloaded")


def test_a_checkpoint_within_a_project_that_has_a_remote_is_no_download(folder):
    git(folder.parent, "init")
    git(folder.parent, *REMOTE)
    assert not found(folder).downloaded


def test_code_of_another_clone_must_be_trusted_and_of_a_cloned_project_not(folder, tmp_path):
    other = write_checkpoint(tmp_path / "other")
    git(other, "init")
    git(other, *REMOTE)
    for word in ("code", "code/da3_xvla"):
        refused(folder, "was downloaded", code_dir=str(other / word))
    (other / "config.json").unlink()
    assert not found(folder, code_dir=str(other / "code")).downloaded


# --- the hub ---------------------------------------------------------------------------------


class Hub(BaseHTTPRequestHandler):
    """The part of the hub's HTTP interface that a download needs, for the model org/name."""

    def __init__(self, files, *args):
        self._files = files
        super().__init__(*args)

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def _answer(self, *, body):
        path = self.path.partition("?")[0]
        self.server.asked.append(path)
        if self.server.refusal is not None:
            status, code = self.server.refusal
            return self._send(status, b"", {"X-Error-Code": code}, body)
        api = "/api/models/org/name"
        files = [
            {"type": "file", "path": n, "rfilename": n, "size": len(c), "oid": _oid(c)}
            for n, c in self._files.items()
        ]
        if path.startswith("/api/models/org/gated"):
            return self._send(403, b"", {"X-Error-Code": "GatedRepo"}, body)
        if path.startswith("/api/models/org/broken"):
            return self._send(503, b"", {}, body)
        revision = "main" if path == api else path.removeprefix(f"{api}/revision/")
        if revision in REVISIONS:
            document = {"id": "org/name", "sha": REVISIONS[revision], "siblings": files, "tags": []}
            return self._send(200, json.dumps(document).encode(), {}, body)
        if path.startswith(f"{api}/revision/"):
            return self._send(404, b"", {"X-Error-Code": "RevisionNotFound"}, body)
        if path in (f"{api}/tree/{COMMIT}", f"{api}/tree/{TAGGED}"):
            return self._send(200, json.dumps(files).encode(), {}, body)
        for commit in (COMMIT, TAGGED):
            name = path.removeprefix(f"/org/name/resolve/{commit}/")
            if name in self._files:
                content = self._files[name]
                headers = {"ETag": f'"{_oid(content)}"', "X-Repo-Commit": commit}
                return self._send(200, content, headers, body)
        return self._send(404, b"", {"X-Error-Code": "RepoNotFound"}, body)

    def _send(self, status, content, headers, body):
        self.send_response(status)
        for key, value in {**headers, "Content-Length": len(content)}.items():
            self.send_header(key, str(value))
        self.end_headers()
        if body:
            self.wfile.write(content)


def _oid(content):
    return hashlib.sha1(content).hexdigest()


class HubServer(ThreadingHTTPServer):
    """A hub on this machine; `asked` lists the paths of all requests.

    Once `refusal` is (HTTP status, the hub's code for why), every request is answered with it.
    """

    def __init__(self, files):
        super().__init__(("127.0.0.1", 0), partial(Hub, files))
        self.asked = []
        self.refusal = None
        self.url = f"http://127.0.0.1:{self.server_port}"


@pytest.fixture
def hub_server(tmp_path):
    """It has a checkpoint, with pickles and other files beside it."""
    folder = write_checkpoint(tmp_path / "served")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    (folder / "training_video.mp4").write_bytes(b"video")
    (folder / "code" / "da3_xvla" / "models" / "sizes.yaml").write_text("size: 224")
    for name in ("scales.pkl", "scales.pt"):
        (folder / "code" / "da3_xvla" / name).write_bytes(b"pickle")
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
    server = HubServer(files)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def hub(hub_server):
    return hub_server.url


LOCATE = """
import json, sys
from b1k_envs.errors import B1kEvalError
from b1k_policies.checkpoint import CheckpointRequest
from b1k_policies.xvla.files.checkpoint import locate
try:
    found = locate(CheckpointRequest(**json.loads(sys.argv[1])))
    told = {**found.to_dict(), "folder": str(found.folder), "downloaded": found.downloaded}
    told["remarks"] = found.remarks
except B1kEvalError as error:
    told = {"exit_code": error.exit_code, "error": str(error)}
print(json.dumps({**told, "heavy": [m for m in ("torch", "transformers") if m in sys.modules]}))
"""
CONTRACT_ONLY = """
import json, sys
from b1k_policies.xvla.files.folder import find_folder
found = find_folder(sys.argv[1], weights=False)
print(json.dumps({"folder": str(found.folder), "remarks": found.remarks}))
"""
DOWNLOAD = """
import json, sys
from huggingface_hub import snapshot_download
snapshot_download("org/name", local_dir=sys.argv[1])
print("{}")
"""


@pytest.fixture
def ask(tmp_path):
    """Run a script in a process of its own: huggingface_hub reads its settings when imported."""
    home = tmp_path / "home"
    kept = {k: v for k, v in os.environ.items() if "proxy" not in k.lower() and k[:3] != "HF_"}

    def run(endpoint, argument, script=LOCATE, **environment):
        done = subprocess.run(
            [sys.executable, "-c", script, argument],
            env={**kept, "HF_HOME": str(home), "HF_ENDPOINT": endpoint, **environment},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        return json.loads(done.stdout)

    return run


def test_an_unreachable_hub_is_named_with_the_cache_that_lacks_the_checkpoint(ask, tmp_path):
    told = ask("http://127.0.0.1:9", '{"ckpt": "org/name@v1"}')
    assert told == {
        "exit_code": 4,
        "error": (
            "org/name@v1: no folder here; cannot reach the hub (http://127.0.0.1:9), not in the "
            f"cache ({tmp_path}/home/hub); download it elsewhere and give the folder"
        ),
        "heavy": [],
    }


@pytest.mark.slow
def test_a_hub_id_is_downloaded_at_a_commit_and_found_again_without_the_hub(ask, hub, tmp_path):
    (tmp_path / "home").mkdir()
    refused = ask(hub, '{"ckpt": "org/name"}')
    assert refused["exit_code"] == 4
    assert "read it and pass --trust-checkpoint-code" in refused["error"]
    trusted = '{"ckpt": "org/name", "trust_code": true}'
    told = ask(hub, trusted)
    assert (told["origin"], told["repo"], told["revision"]) == ("org/name", "org/name", COMMIT)
    assert told["downloaded"] is True
    assert told["heavy"] == []
    assert told["remarks"] == []
    there = sorted(p.name for p in Path(told["folder"]).iterdir())
    assert there == [
        "README.md", "code", "config.json", "merges.txt", "model.safetensors", "vocab.json",
    ]  # fmt: skip
    cached = f"; the cached commit {COMMIT} is used, which may not be the newest"
    assert ask("http://127.0.0.1:9", trusted) == {
        **told,
        "remarks": [f"org/name: cannot reach the hub (http://127.0.0.1:9){cached}"],
    }
    assert ask(hub, trusted, HF_HUB_OFFLINE="1") == {
        **told,
        "remarks": [f"org/name: the hub is switched off (HF_HUB_OFFLINE){cached}"],
    }
    at_commit = json.dumps({"ckpt": f"org/name@{COMMIT}", "trust_code": True})
    assert ask("http://127.0.0.1:9", at_commit)["revision"] == COMMIT


def test_a_revision_is_downloaded_at_the_commit_it_stands_for(ask, hub):
    told = ask(hub, '{"ckpt": "org/name@v1", "trust_code": true}')
    assert (told["origin"], told["repo"], told["revision"]) == ("org/name@v1", "org/name", TAGGED)
    assert Path(told["folder"]).name == TAGGED


def test_a_hub_that_fails_is_asked_no_more(ask, hub_server):
    ask(hub_server.url, '{"ckpt": "org/broken"}')
    assert len([path for path in hub_server.asked if "org/broken" in path]) == 1


@pytest.mark.slow
def test_a_hub_that_breaks_down_leaves_the_cached_commit_with_a_remark(ask, hub_server):
    trusted = '{"ckpt": "org/name", "trust_code": true}'
    told = ask(hub_server.url, trusted)
    hub_server.refusal = (503, "")
    remark = (
        f"org/name: the hub ({hub_server.url}) answered HTTP 503; the cached commit {COMMIT} is "
        f"used, which may not be the newest"
    )
    assert ask(hub_server.url, trusted) == {**told, "remarks": [remark]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("refusal", "text"),
    [
        (
            (401, "RepoNotFound"),
            "org/name: neither a folder here nor a model on the hub (HUB), or a private",
        ),
        ((403, "GatedRepo"), "org/name: access is restricted; ask for it at HUB/org/name, then"),
        (
            (403, ""),
            "org/name: the hub (HUB) refuses it with HTTP 403; log in with `hf auth login`",
        ),
        ((404, "RepoNotFound"), "org/name: neither a folder here nor a model on the hub (HUB), or"),
        ((404, "RevisionNotFound"), "org/name: org/name has no revision 'main' on the hub (HUB)"),
    ],
)
def test_what_the_hub_refuses_is_not_taken_from_the_cache(ask, hub_server, refusal, text):
    trusted = '{"ckpt": "org/name", "trust_code": true}'
    assert ask(hub_server.url, trusted)["revision"] == COMMIT
    hub_server.refusal = refusal
    told = ask(hub_server.url, trusted)
    assert told["exit_code"] == 4
    assert told["error"].startswith(text.replace("HUB", hub_server.url))


@pytest.mark.slow
def test_for_the_contract_only_json_is_downloaded(ask, hub_server):
    told = ask(hub_server.url, "org/name", CONTRACT_ONLY)
    folder = Path(told["folder"])
    assert {path.name for path in folder.rglob("*")} == {"config.json", "vocab.json"}
    assert not [path for path in hub_server.asked if "safetensors" in path]
    told = ask("http://127.0.0.1:9", "org/name", CONTRACT_ONLY)
    (remark,) = told["remarks"]
    assert remark.startswith("org/name: cannot reach the hub (http://127.0.0.1:9); the cached")


def test_files_of_the_code_are_downloaded_whatever_their_kind_but_no_pickles(ask, hub):
    told = ask(hub, '{"ckpt": "org/name", "trust_code": true}')
    code = Path(told["folder"]) / "code" / "da3_xvla"
    assert {path.relative_to(code).as_posix() for path in code.rglob("*")} == {
        "models", "models/modeling_xvla.py", "models/sizes.yaml",
    }  # fmt: skip


def test_pickles_are_downloaded_only_where_they_are_allowed(ask, hub):
    request = {"ckpt": "org/name", "trust_code": True, "allow_pickle": True}
    told = ask(hub, json.dumps(request))
    code = Path(told["folder"]) / "code" / "da3_xvla"
    assert (code / "scales.pkl").is_file()
    assert (code / "scales.pt").is_file()
    assert (Path(told["folder"]) / "pytorch_model.bin").read_bytes() == b"pickle"
    assert told["weights_format"] == "safetensors"


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("org/absent", "org/absent: neither a folder here nor a model on the hub (HUB), or a"),
        ("org/gated", "org/gated: access is restricted; ask for it at HUB/org/gated, then log in"),
        ("org/name@v9", "org/name@v9: org/name has no revision 'v9' on the hub (HUB); give a"),
        ("org/broken", "org/broken: no folder here; the hub (HUB) answered HTTP 503, not in the"),
    ],
)
def test_what_the_hub_does_not_give_is_refused_with_the_way_out(ask, hub, word, text):
    told = ask(hub, json.dumps({"ckpt": word}))
    assert told["exit_code"] == 4
    assert told["error"].startswith(text.replace("HUB", hub))


def test_a_download_to_a_folder_of_ones_own_is_still_a_download(ask, hub, tmp_path):
    folder = tmp_path / "copy"
    ask(hub, str(folder), DOWNLOAD)
    refused(folder, "was downloaded and would run with your rights")
    trusted = found(folder, trust_code=True)
    assert (trusted.origin, trusted.repo, trusted.revision) == ("copy", None, COMMIT)
    inner = write_checkpoint(folder / "step-2")
    refused(inner, "was downloaded and would run with your rights")


def test_without_huggingface_hub_a_hub_id_is_answered_with_the_install_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UnavailableError, match=re.escape("pip install '.[xvla]' in the checkout")):
        found("org/name")


def test_pickled_weights_are_downloaded_where_the_hub_has_no_others(ask, hub_server):
    files = hub_server.RequestHandlerClass.args[0]
    files.pop("model.safetensors")
    told = ask(hub_server.url, '{"ckpt": "org/name", "trust_code": true}')
    folder = Path(told["folder"])
    assert told["weights_format"] == "pickle"
    assert (folder / "pytorch_model.bin").read_bytes() == b"pickle"
    assert (folder / "code" / "da3_xvla" / "models" / "sizes.yaml").is_file()
    assert not list(folder.rglob("scales.*"))
    assert not (folder / "training_video.mp4").exists()
