"""Doctor on machines with and without OmniGibson, its GPU, its stack and its data."""

from __future__ import annotations

import importlib.metadata
import sys
from types import ModuleType

import pytest
from fake_machines import A100, H100, RTX_4090, FakeMachine, verdict_of

from b1k_eval.doctor import behavior_data, examine, judge
from b1k_eval.doctor.gpu import Card

DOWNLOAD = (
    "OMNI_KIT_ACCEPT_EULA=YES python -c 'from omnigibson.utils import asset_utils; asset_utils"
)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    return FakeMachine(tmp_path, monkeypatch)


def verdict(machine, subject):
    return verdict_of(judge(examine(machine.folder)), subject)


def test_a_workstation_with_an_rtx_4090_and_everything_of_2026_is_ready_for_2026_only(machine):
    machine.ready_2026()
    assert verdict(machine, "omnigibson-2026").text == "ready"
    assert verdict(machine, "omnigibson-2026").steps == ()
    assert verdict(machine, "mujoco").text == "ready"
    assert verdict(machine, "checkpoints").text == "ready"
    other = verdict(machine, "omnigibson-2025")
    assert not other.ready
    assert len(other.steps) == 1
    assert "omnigibson 3.9.3 is installed here, which runs --protocol 2026" in other.text
    assert "git clone -b v3.7.2 https://github.com/StanfordVL/BEHAVIOR-1K.git" in other.text


def test_the_same_of_2025_is_ready_for_2025_only(machine):
    machine.ready_2025()
    assert verdict(machine, "omnigibson-2025").text == "ready"
    other = verdict(machine, "omnigibson-2026")
    assert not other.ready
    assert "git clone -b v3.9.3" in other.text


def test_what_is_installed_is_told_with_versions_and_places(machine):
    machine.ready_2026()
    package = machine.repository / "OmniGibson" / "omnigibson"
    data = machine.data_path
    expected = {
        "nvidia gpu": "NVIDIA GeForce RTX 4090, 24.0 GiB",
        "gpu driver": "570.124.06",
        "ray tracing": "yes",
        "gpu memory": "24.0 GiB",
        "memory": "64.0 GB, 64.0 GB unused",
        "torch": "2.7.0+cu128",
        "omnigibson 2026": f"3.9.3 ({package})",
        "omnigibson python": "3.11; OmniGibson v3.9.3 runs on 3.11",
        "isaacsim": "5.1.0.0",
        "omnigibson numpy": "1.26.4",
        "omnigibson bddl": "3.7.2",
        "gello": "joylo is installed",
        "data path": str(data),
        "assets": "behavior-1k-assets 3.9.0rc9, omnigibson-robot-assets 3.8.2",
        "asset key": f"{data}/omnigibson.key",
        "data disk": "the assets are here already",
    }
    found = {check.name: check for check in examine(machine.folder)}
    assert {name: found[name].detail for name in expected} == expected
    assert {found[name].state for name in expected} == {"ok"}
    assert found["instances 2026"].detail.endswith("_0_301_template-tro_state.json")
    assert found["instances 2025"].state == "skipped"


def test_an_a100_runs_policies_and_doctor_says_that_its_pictures_are_unreliable(machine):
    machine.ready_2026()
    machine.nvidia_smi(A100)
    said = verdict(machine, "omnigibson-2026")
    assert said.ready
    assert said.text == (
        "ready, but ray tracing: NVIDIA A100-SXM4-80GB has no ray-tracing cores: OmniGibson's "
        "pictures are unreliable; use this card for policies, and run OmniGibson on a machine with "
        "an NVIDIA RTX GPU"
    )
    assert verdict(machine, "checkpoints").text == "ready"


@pytest.mark.parametrize(
    ("card", "state"),
    [
        (H100, "absent"),
        ("NVIDIA GH200 480GB, 97871, 565.57.01", "absent"),
        ("NVIDIA H200, 143771, 570.86.15", "ok"),
        (A100, "ok"),  # older, and no Hopper
    ],
)
def test_a_hopper_card_needs_driver_570(machine, card, state):
    machine.ready_2026()
    machine.nvidia_smi(card)
    check = machine.check("gpu driver")
    assert check.state == state
    assert verdict(machine, "omnigibson-2026").ready is (state == "ok")
    if state == "absent":
        assert check.detail.endswith("too old for OmniGibson on a Hopper card")
        assert check.advice == "install driver 570 or newer"
        assert verdict(machine, "checkpoints").ready


@pytest.mark.parametrize(
    ("name", "able"),
    [
        *[(name, True) for name in ("NVIDIA RTX A6000", "NVIDIA L40S", "Tesla T4", "NVIDIA A10G")],
        *[
            (name, True)
            for name in ("NVIDIA TITAN RTX", "NVIDIA RTX PRO 6000 Blackwell", "NVIDIA A2")
        ],
        *[(name, False) for name in ("NVIDIA A100 80GB PCIe", "NVIDIA A30", "NVIDIA H200 NVL")],
        *[(name, False) for name in ("Tesla V100-SXM2-16GB", "NVIDIA GeForce GTX 1660 Ti")],
        *[(name, False) for name in ("NVIDIA GB200", "NVIDIA B200", "NVIDIA GH200 480GB")],
        *[(name, None) for name in ("NVIDIA T400 4GB", "NVIDIA GB10", "NVIDIA X9")],
    ],
)
def test_which_cards_trace_rays_goes_by_their_names_and_an_unknown_name_is_said_to_be_one(
    name, able
):
    assert Card(name=name, memory_gib=None, driver="570").ray_tracing is able


def test_a_card_of_an_unknown_name_is_a_remark_and_no_verdict(machine):
    machine.ready_2026()
    machine.nvidia_smi("NVIDIA X9, 24564, 600.1")
    check = machine.check("ray tracing")
    assert (check.state, check.detail) == ("note", "not known of NVIDIA X9")
    assert verdict(machine, "omnigibson-2026").ready


def test_beside_a_card_for_computing_the_one_that_traces_rays_is_named(machine):
    machine.ready_2026()
    machine.nvidia_smi(A100, RTX_4090)
    check = machine.check("ray tracing")
    assert (check.state, check.detail) == ("note", "GPU 1 of 2 only")
    assert check.advice.endswith("export OMNIGIBSON_GPU_ID=1")
    assert machine.check("nvidia gpu").detail == (
        "NVIDIA A100-SXM4-80GB, 80.0 GiB; NVIDIA GeForce RTX 4090, 24.0 GiB"
    )


@pytest.mark.parametrize(
    ("mib", "advice"),
    [
        ("6144", "OmniGibson's documented minimum is 8 GB"),
        ("8188", "a process of OmniGibson takes 10 to 12 GiB, 8.2 when slimmed"),
        ("12288", None),
    ],
)
def test_a_small_card_is_a_remark(machine, mib, advice):
    machine.ready_2026()
    machine.nvidia_smi(f"NVIDIA GeForce RTX 3050, {mib}, 570.1")
    assert machine.check("gpu memory").advice == advice
    assert verdict(machine, "omnigibson-2026").ready


def test_a_card_whose_memory_the_driver_does_not_tell_is_not_called_small(machine):
    machine.nvidia_smi("NVIDIA GB10, [N/A], 580.95")
    assert machine.check("gpu memory").state == "skipped"
    assert machine.check("nvidia gpu").detail == "NVIDIA GB10"


def test_a_card_on_the_bus_without_a_driver_is_seen_and_the_driver_asked_for(machine):
    machine.ready_2026()
    (machine.folder / "bin" / "nvidia-smi").unlink()
    machine.card_without_driver()
    check = machine.check("nvidia gpu")
    assert check.detail == "an NVIDIA card is on the PCI bus, but no driver for it"
    assert check.advice.startswith("install NVIDIA's driver (Ubuntu: sudo ubuntu-drivers install;")
    assert not verdict(machine, "omnigibson-2026").ready


def test_a_cards_loudspeaker_that_was_passed_on_alone_is_no_card(machine):
    machine.card_without_driver(kind="0x040300")
    assert machine.check("nvidia gpu").detail == "no nvidia-smi, and no NVIDIA card on the PCI bus"


def test_a_driver_that_fails_is_quoted(machine):
    said = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."
    machine.nvidia_smi(said, status=9)
    check = machine.check("nvidia gpu")
    assert (check.state, check.detail) == ("absent", f"nvidia-smi: {said}")
    assert "until nvidia-smi lists the card" in check.advice


def test_without_any_card_checkpoints_are_ready_on_the_cpu(machine):
    assert machine.check("nvidia gpu").detail == "no nvidia-smi, and no NVIDIA card on the PCI bus"
    said = verdict(machine, "checkpoints")
    assert said.ready
    assert said.text == ("ready, but no NVIDIA GPU answers here: a checkpoint computes on the CPU")


def test_the_2025_stack_on_python_3_11_is_told_to_take_3_10(machine):
    machine.ready_2025()
    machine.python(3, 11)
    said = verdict(machine, "omnigibson-2025")
    assert not said.ready
    assert said.text.startswith(
        "not here: omnigibson python: 3.11; OmniGibson v3.7.2 runs on 3.10; a new environment: "
        "git clone -b v3.7.2 "
    )


def test_numpy_2_beside_omnigibson_is_in_the_way_of_it_alone(machine):
    machine.ready_2026()
    info = next(machine.folder.glob("site/numpy-*.dist-info"))
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 2.2.1\n")
    said = verdict(machine, "omnigibson-2026")
    assert said.steps == (
        "omnigibson numpy: 2.2.1; Isaac Sim and OmniGibson run with numpy < 2; "
        "pip install 'numpy<2' 'pyarrow<26'",
    )
    assert verdict(machine, "mujoco").ready


@pytest.mark.parametrize(
    ("version", "problem"),
    [("4.5.0.0", "4.5.0.0; OmniGibson v3.9.3 runs on 5.1"), ("5.1.0.0", None)],
)
def test_isaac_sim_is_that_of_the_generation(machine, version, problem):
    machine.nvidia_smi(RTX_4090)
    machine.python(3, 11)
    machine.omnigibson("3.9.3", isaacsim=version, torch="2.7.0+cu128")
    check = machine.check("isaacsim")
    assert check.state == ("ok" if problem is None else "absent")
    assert check.detail == (problem or version)


def test_isaac_sims_meta_package_alone_is_not_enough(machine):
    machine.distribution("isaacsim", "4.5.0.0")
    check = machine.check("isaacsim")
    assert check.state == "absent"
    assert check.detail == "4.5.0.0; its meta package alone, without isaacsim-kernel"


def test_a_module_that_is_loaded_without_saying_from_where_counts_as_there(machine, monkeypatch):
    monkeypatch.setitem(sys.modules, "isaacsim", ModuleType("isaacsim"))
    monkeypatch.setattr(sys.modules["isaacsim"], "__spec__", None)
    check = machine.check("isaacsim")
    assert (check.state, check.detail) == ("ok", "importable, version unknown")


def test_the_bddl_of_pypi_beside_omnigibson_is_told_by_its_files(machine):
    machine.ready_2026()
    (machine.folder / "site" / "bddl" / "backend_abc.py").write_text("")
    check = machine.check("omnigibson bddl")
    assert check.state == "absent"
    assert check.advice == f"pip install -e {machine.repository}/bddl3"


def test_without_joylo_the_adapter_runs_and_the_official_evaluator_does_not(machine):
    machine.ready_2026()
    (machine.repository / "joylo" / "gello" / "__init__.py").unlink()
    (machine.repository / "joylo" / "gello").rmdir()
    check = machine.check("gello")
    assert (check.state, check.advice) == ("note", f"pip install -e {machine.repository}/joylo")
    assert verdict(machine, "omnigibson-2026").ready


@pytest.mark.parametrize("version", ["3.9.0", "3.8.0", "4.0.0"])
def test_a_version_that_is_not_served_is_ready_for_no_year_and_both_are_named(machine, version):
    machine.nvidia_smi(RTX_4090)
    machine.omnigibson(version, isaacsim="5.1.0.0", torch="2.7.0+cu128")
    machine.data("2026")
    for subject, tag in (("omnigibson-2025", "v3.7.2"), ("omnigibson-2026", "v3.9.3")):
        said = verdict(machine, subject)
        assert not said.ready
        assert f"omnigibson {version} " in said.text
        assert f"git clone -b {tag} " in said.text


def test_a_missing_key_is_fetched_by_accepting_the_licence(machine):
    machine.ready_2026()
    machine.remove("omnigibson.key")
    said = verdict(machine, "omnigibson-2026")
    assert said.steps == (
        f"asset key: {machine.data_path}/omnigibson.key is missing: the assets are encrypted; "
        f"if you accept the licences, this brings it: {DOWNLOAD}.download_behavior_1k_assets"
        "(accept_license=True)'",
    )


@pytest.mark.parametrize(
    ("folder", "function"),
    [
        ("behavior-1k-assets", "download_behavior_1k_assets(accept_license=True)"),
        ("omnigibson-robot-assets", "download_omnigibson_robot_assets()"),
        ("2026-challenge-task-instances", "download_2026_challenge_task_instances()"),
    ],
)
def test_a_missing_folder_of_the_data_is_named_with_what_downloads_it(machine, folder, function):
    machine.ready_2026()
    machine.remove(folder)
    (step,) = verdict(machine, "omnigibson-2026").steps
    assert f"{folder} not in {machine.data_path}" in step
    assert step.endswith(f"{DOWNLOAD}.{function}'")


def test_an_instance_folder_without_the_instances_is_not_taken_for_one(machine):
    machine.ready_2026()
    machine.remove("2026-challenge-task-instances", "scene_test")
    (step,) = verdict(machine, "omnigibson-2026").steps
    assert "_0_301_template-tro_state.json is missing" in step
    folder = machine.data_path / "2026-challenge-task-instances"
    assert f"mv {folder} {folder}.old && {DOWNLOAD}" in step


def test_without_pyyaml_the_tables_cannot_be_read_and_it_is_asked_for(machine, monkeypatch):
    machine.ready_2026()
    monkeypatch.setattr(behavior_data, "is_importable", lambda name: name != "yaml")
    (step,) = verdict(machine, "omnigibson-2026").steps
    assert step.endswith("; its tables cannot be read without PyYAML; pip install PyYAML")


def test_data_without_omnigibson_are_looked_at_where_the_variable_says(machine, monkeypatch):
    monkeypatch.setenv("OMNIGIBSON_DATA_PATH", str(machine.data_path))
    machine.data("2026")
    folder = machine.data_path / "2026-challenge-task-instances"
    assert machine.check("instances 2026").detail == str(folder)
    assert machine.check("instances 2025").state == "absent"
    assert machine.check("asset key").state == "ok"


def test_no_data_at_all_is_a_folder_to_make_and_three_downloads(machine):
    machine.ready_2026()
    machine.remove()
    said = verdict(machine, "omnigibson-2026")
    assert [step.partition(":")[0] for step in said.steps] == [
        "data path",
        "assets",
        "asset key",
        "instances 2026",
    ]
    assert f"mkdir -p {machine.data_path}, or export OMNIGIBSON_DATA_PATH=" in said.steps[0]
    for step in said.steps[1:]:
        assert f": mkdir -p {machine.data_path} && {DOWNLOAD}" in step.replace("; mkdir", ": mkdir")


def test_older_scenes_are_a_remark_and_an_older_robot_is_refused(machine):
    machine.ready_2026()
    scenes, robot = machine.data_path / "behavior-1k-assets", "omnigibson-robot-assets"
    (scenes / "VERSION").write_text("3.7.0\n")
    said = verdict(machine, "omnigibson-2026")
    assert said.ready
    assert "this OmniGibson downloads behavior-1k-assets 3.9.0rc9" in said.text
    assert f"; mv {scenes} {scenes}.old && {DOWNLOAD}.download_behavior_1k_assets" in said.text
    (machine.data_path / robot / "VERSION").write_text("3.7.9\n")
    (step,) = verdict(machine, "omnigibson-2026").steps
    assert "this OmniGibson refuses a robot older than 3.8.2" in step


def test_the_data_path_of_the_variable_comes_before_that_of_the_checkout(machine, monkeypatch):
    machine.ready_2026()
    machine.remove()
    elsewhere = machine.folder / "big"
    monkeypatch.setenv("OMNIGIBSON_DATA_PATH", str(elsewhere))
    machine.data("2026", root=elsewhere)
    assert machine.check("data path").detail == str(elsewhere)
    assert verdict(machine, "omnigibson-2026").text == "ready"


def test_a_disk_too_small_for_the_data_says_how_much_to_free(machine):
    machine.ready_2026()
    machine.remove("behavior-1k-assets")
    machine.disk_gib(20.5)
    check = machine.check("data disk")
    assert check.state == "absent"
    assert check.detail == f"22.0 GB free for {machine.data_path}; the data take 38 GB"
    assert check.advice.startswith("free 16 GB, or export OMNIGIBSON_DATA_PATH=")
    assert len(verdict(machine, "omnigibson-2026").steps) == 2
    machine.disk_gib(36)
    assert machine.check("data disk").state == "ok"


def test_with_the_scenes_here_a_small_disk_is_large_enough(machine):
    machine.ready_2026()
    machine.remove("omnigibson-robot-assets")
    machine.disk_gib(5)
    assert machine.check("data disk").state == "ok"


@pytest.mark.parametrize("name", ["EXP_PATH", "CARB_APP_PATH", "ISAAC_PATH"])
def test_a_variable_of_another_isaac_sim_has_to_be_unset(machine, monkeypatch, name):
    machine.ready_2026()
    monkeypatch.setenv(name, "/isaac-sim")
    (step,) = verdict(machine, "omnigibson-2026").steps
    assert step == f"isaac variables: {name} set, of another Isaac Sim; unset {name}"


def test_variables_from_before_the_monorepo_are_said_to_be_read_by_nothing(machine, monkeypatch):
    machine.ready_2026()
    monkeypatch.setenv("OMNIGIBSON_DATASET_PATH", "/data/og_dataset")
    monkeypatch.setenv("OMNIGIBSON_KEY_PATH", "/data/omnigibson.key")
    check = machine.check("old variables")
    assert check.state == "note"
    assert check.detail == (
        "OMNIGIBSON_DATASET_PATH, OMNIGIBSON_KEY_PATH set, which OmniGibson no longer reads"
    )
    assert check.advice == (
        "unset OMNIGIBSON_DATASET_PATH OMNIGIBSON_KEY_PATH; export OMNIGIBSON_DATA_PATH= the "
        "folder that holds behavior-1k-assets"
    )
    assert verdict(machine, "omnigibson-2026").ready
    monkeypatch.setenv("OMNIGIBSON_DATA_PATH", str(machine.data_path))
    assert machine.check("old variables").advice == (
        "unset OMNIGIBSON_DATASET_PATH OMNIGIBSON_KEY_PATH"
    )


def test_too_little_memory_is_a_remark(machine):
    machine.ready_2026()
    machine.memory_gb(16)
    assert verdict(machine, "omnigibson-2026").text == (
        "ready, but memory: 16.0 GB, 16.0 GB unused; OmniGibson's documented minimum is 32 GB"
    )
    assert verdict(machine, "mujoco").text == "ready"


def test_a_torch_without_gpu_beside_a_gpu_is_a_remark_on_checkpoints(machine):
    machine.nvidia_smi(RTX_4090)
    machine.distribution("torch", "2.7.0+cpu")
    said = verdict(machine, "checkpoints")
    assert said.ready
    assert said.text == (
        "ready, but torch: 2.7.0+cpu, a build that uses no GPU; pip install torch --index-url "
        "https://download.pytorch.org/whl/cu128"
    )


def test_a_torch_older_than_served_is_in_the_way(machine):
    machine.distribution("torch", "2.0.1+cu118")
    check = machine.check("torch")
    assert (check.state, check.detail) == ("absent", "2.0.1+cu118 is too old")
    assert not verdict(machine, "checkpoints").ready


@pytest.mark.parametrize(
    ("name", "version", "said"),
    [
        ("transformers", "4.39.3", "not here: transformers 4.39.3, which is too old"),
        ("huggingface-hub", "0.24.0", "not here: huggingface-hub 0.24.0, which is too old"),
    ],
)
def test_packages_too_old_for_checkpoints_are_named_with_their_extra(machine, name, version, said):
    machine.distribution(name, version)
    check = machine.check("checkpoint packages")
    assert (check.state, check.detail) == ("absent", said)
    assert check.advice == "pip install '.[xvla]' in the checkout"
    assert not verdict(machine, "checkpoints").ready


def test_packages_missing_for_checkpoints_are_named_with_their_extra(machine, monkeypatch):
    real = importlib.metadata.distribution

    def without(name):
        if name in ("torch", "safetensors"):
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "distribution", without)
    assert machine.check("checkpoint packages").detail == "not here: safetensors"


def test_a_bare_machine_gets_one_command_that_builds_the_stack_of_each_year(machine):
    for year, tag in (("2025", "v3.7.2"), ("2026", "v3.9.3")):
        check = machine.check(f"omnigibson {year}")
        assert (check.state, check.detail) == ("absent", "not installed")
        assert check.advice == (
            f"git clone -b {tag} https://github.com/StanfordVL/BEHAVIOR-1K.git && cd "
            "BEHAVIOR-1K && ./setup.sh --new-env --omnigibson --bddl --joylo --dataset --eval && "
            "conda activate behavior && pip install 'CHECKOUT[numpy1]'"
        )


def test_the_fake_packages_would_tell_if_they_were_imported(machine):
    machine.ready_2026()
    with pytest.raises(SystemExit, match="omnigibson was imported"):
        __import__("omnigibson")


def test_every_machine_has_the_same_checks_in_the_same_order(tmp_path, monkeypatch):
    bare = FakeMachine(tmp_path, monkeypatch)
    names = [check.name for check in examine(bare.folder)]
    bare.ready_2026()
    assert [check.name for check in examine(bare.folder)] == names
    assert len(set(names)) == len(names)
