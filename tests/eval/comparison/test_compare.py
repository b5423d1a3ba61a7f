"""Comparing runs: what is refused, what is counted, what is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from run_folders import finished_run
from typer.testing import CliRunner

from b1k_envs.errors import UsageError
from b1k_eval.cli.main import app
from b1k_eval.comparison.comparable import differences, require_comparable
from b1k_eval.comparison.summary import summarise_runs
from b1k_eval.comparison.verdicts import holm
from b1k_eval.records.loading import read_run_data
from b1k_policies.contract.presets import V4, V17

WON, LOST, BROKE = "success", "failure", "error"


def compare(*paths: Path, **options):
    return summarise_runs([read_run_data(path) for path in paths], **options)


def pair(tmp_path: Path, first: dict, second: dict, **options):
    one = finished_run(tmp_path / "one", first, policy={"name": "v4"})
    two = finished_run(tmp_path / "two", second, policy={"name": "v17"})
    document = compare(one, two, **options)
    (found,) = document["pairs"]
    return document, found


def instances(*outcomes) -> dict:
    return dict(enumerate(outcomes))


# --- what is said ----------------------------------------------------------------------------


def test_a_clear_winner_is_named_with_points_interval_p_and_pairs(tmp_path):
    document, found = pair(
        tmp_path, instances(*[LOST] * 10, *[WON] * 2), instances(*[WON] * 11, LOST)
    )
    assert found["decided"]
    # 10 wins, 1 loss: 2 * (1 + 11) / 2^11
    assert found["success"]["p_value"] == pytest.approx(24 / 2048)
    low, high = (round(100 * found["success"]["interval"][end]) for end in ("low", "high"))
    assert found["verdict"] == (
        f"v17 better: +75 points [{low}, {high}], p = 0.012, 12 paired instances"
    )
    assert 0 < low < 75 < high
    assert [row["success"]["rate"] for row in document["runs"]] == [
        pytest.approx(2 / 12),
        pytest.approx(11 / 12),
    ]


def test_the_loser_in_second_place_turns_the_sentence_round(tmp_path):
    _, found = pair(tmp_path, instances(*[WON] * 10), instances(*[LOST] * 10))
    assert found["verdict"].startswith("v4 better: +100 points [")
    assert found["success"]["difference"] == -1.0


def test_too_little_evidence_says_how_much_more_would_do(tmp_path):
    _, found = pair(tmp_path, instances(*[WON, LOST] * 5), instances(*[WON, LOST] * 4, WON, WON))
    assert not found["decided"]
    assert found["verdict"].startswith("cannot tell: v17 +10 points [")
    assert "p = 1, 10 paired instances" in found["verdict"]
    assert "more instances would show a difference of 25 points with 80 % power" in found["verdict"]


def test_three_runs_are_judged_by_adjusted_p_values(tmp_path):
    paths = [
        finished_run(tmp_path / name, instances(*outcomes), policy={"name": name})
        for name, outcomes in (
            ("a", [LOST] * 6),
            ("b", [WON] * 6),
            ("c", [WON, LOST] * 3),
        )
    ]
    document = compare(*paths)
    raw = [pair["success"]["p_value"] for pair in document["pairs"]]
    assert raw[0] == pytest.approx(2 / 64)
    assert document["pairs"][0]["p_adjusted"] == pytest.approx(6 / 64)
    assert not document["pairs"][0]["decided"]


def test_holms_adjustment_matches_statsmodels():
    from statsmodels.stats.multitest import multipletests

    p_values = [0.01, 0.04, 0.03, 0.005, 0.9]
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])


# --- edge cases ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcomes", "rate"),
    [({}, None), ({0: BROKE}, None), ({0: LOST}, 0.0), ({0: WON}, 1.0)],
)
def test_few_or_no_scored_episodes_make_no_number_up(tmp_path, outcomes, rate):
    document = compare(finished_run(tmp_path / "run", outcomes))
    (row,) = document["runs"]
    assert row["success"]["rate"] == rate
    assert (row["success"]["interval"] is None) == (rate is None)
    assert row["q_score"]["interval"] is None  # a spread needs two instances
    json.dumps(document, allow_nan=False)


def test_errors_are_counted_and_never_scored(tmp_path):
    document, found = pair(
        tmp_path, instances(WON, BROKE, LOST), instances(WON, WON, BROKE), mix=True
    )
    assert document["runs"][0]["counts"] == {"success": 1, "failure": 1, "error": 1}
    assert document["runs"][0]["success"]["rate"] == 0.5
    assert found["shared_instances"] == 1


def test_all_errors_cannot_be_judged(tmp_path):
    _, found = pair(tmp_path, instances(BROKE, BROKE), instances(BROKE, BROKE))
    assert found["verdict"] == "cannot tell: the runs have no scored episode to compare"


def test_several_rollouts_of_an_instance_are_one_instance(tmp_path):
    first = instances(*[[LOST, LOST, LOST]] * 4)
    second = instances(*[[WON, WON, WON]] * 4)
    document, found = pair(tmp_path, first, second)
    # Four instances can never be significant at 5 %, however often each is tried: 2 / 2^4.
    assert found["success"]["p_value"] == pytest.approx(2 / 16)
    assert not found["decided"]
    assert document["runs"][0]["success"]["clustered"]


def test_a_run_still_being_written_counts_what_it_has(tmp_path):
    one = finished_run(tmp_path / "one", instances(WON, WON, LOST))
    two = finished_run(tmp_path / "two", instances(WON, LOST, LOST))
    file = two / "episodes.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:2]) + lines[2][:20])  # torn in mid-line
    document = compare(one, two, mix=True)
    assert (document["runs"][1]["scored"], document["runs"][1]["pending"]) == (2, 1)
    assert document["pairs"][0]["shared_instances"] == 2


def test_runs_without_a_shared_instance_get_barnards_test(tmp_path):
    from scipy.stats import barnard_exact

    _, found = pair(
        tmp_path,
        dict.fromkeys(range(8), LOST),
        dict.fromkeys(range(10, 18), WON),
        mix=True,
    )
    assert found["success"]["test"] == "Barnard exact"
    expected = barnard_exact([[8, 0], [0, 8]]).pvalue
    assert found["success"]["p_value"] == pytest.approx(expected)
    assert "8 and 8 unpaired episodes" in found["verdict"]


def test_a_run_that_was_stopped_when_decided_is_judged_by_its_e_value(tmp_path):
    one = finished_run(tmp_path / "one", instances(*[LOST] * 10), policy={"name": "v4"})
    outcomes = dict.fromkeys(range(7), WON)
    two = finished_run(tmp_path / "two", outcomes, policy={"name": "v17"}, against=str(one))
    (found,) = compare(one, two)["pairs"]
    assert found["success"]["test"] == "1 / e-value, anytime-valid"
    assert found["success"]["p_value"] == pytest.approx(1 / found["sequential"]["e_value"])
    assert found["success"]["p_value"] > 2 / 2**7  # what a look after seven would have claimed
    assert found["decided"]


def test_what_came_after_the_decision_or_out_of_order_does_not_undo_it(tmp_path):
    """Episodes of other workers were still running when it was decided, or when it was stopped."""
    one = finished_run(tmp_path / "one", instances(*[LOST] * 8, WON, WON), policy={"name": "v4"})
    order = (9, 1, 2, 3, 4, 5, 6, 7, 0, 8)
    outcomes = {n: WON if n not in (8, 9) else LOST for n in order if n != 9}
    outcomes = {n: outcomes[n] for n in order[1:]} | {9: LOST}
    two = finished_run(tmp_path / "two", outcomes, policy={"name": "v17"}, against=str(one))
    (found,) = compare(one, two)["pairs"]
    assert found["sequential"]["decided_at"] == 7
    assert found["decided"]
    missing = two / "episodes.jsonl"
    kept = [row for row in missing.read_text().splitlines() if '"instance": 3,' not in row]
    missing.write_text("".join(f"{row}\n" for row in kept))
    (found,) = compare(one, two)["pairs"]
    assert found["shared_instances"] == 2  # 1 and 2, up to the gap
    assert not found["decided"]


# --- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"protocol": "2025"}, "protocol: 2026 against 2025"),
        ({"split": "train"}, "split: public-test against train"),
        ({"max_steps": 51}, "time limit in steps: 50 against 51"),
        ({"sim": "omnigibson"}, "simulator: mujoco against omnigibson"),
    ],
)
def test_different_experiments_are_refused_with_the_difference(tmp_path, changes, words):
    runs = [
        read_run_data(finished_run(tmp_path / "one", instances(WON))),
        read_run_data(finished_run(tmp_path / "two", instances(WON), **changes)),
    ]
    with pytest.raises(UsageError) as refused:
        require_comparable(runs)
    assert words in str(refused.value)
    assert "--mix" in str(refused.value)
    assert summarise_runs(runs, mix=True)["mixed"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"action_noise": "0.03"}, "action noise: none against 0.03 over 0.3 s"),
        ({"action_noise": "0,0.1,2,0.4"}, "none against 0 over 0.1 s, kicks of 0.4 at 2 Hz"),
        ({"horizon": 5}, "horizon: 10 against 5"),
    ],
)
def test_a_declared_part_of_the_experiment_is_compared_and_named_in_words(tmp_path, changes, words):
    paths = [
        finished_run(tmp_path / "one", instances(WON)),
        finished_run(tmp_path / "two", instances(WON), **changes),
    ]
    done = CliRunner().invoke(app, ["compare", *map(str, paths)])
    assert done.exit_code == 0, done.output
    said = done.stdout
    assert words in said
    assert "not the same experiment" not in said
    assert "{" not in said
    assert "False" not in said


def test_different_instances_and_worlds_are_refused(tmp_path):
    one = read_run_data(finished_run(tmp_path / "one", instances(WON, LOST, WON), env={"g": 1}))
    two = read_run_data(finished_run(tmp_path / "two", {0: WON, 5: WON}, env={"g": 2}))
    words = {str(entry) for entry in differences(one, two).blocking}
    assert words == {"world: g: 1 against 2", "instances: 0-2 against 0, 5"}


def test_an_error_here_and_there_does_not_make_runs_different_experiments(tmp_path):
    document, found = pair(tmp_path, instances(WON, BROKE, LOST), instances(WON, WON, LOST))
    assert not document["mixed"]
    assert [entry["text"] for entry in found["differences"]["notable"]] == [
        "instances scored: 0, 2 against 0-2"
    ]


def test_a_run_from_before_there_were_tracks_counts_as_one_without(tmp_path):
    folders = [finished_run(tmp_path / name, instances(WON)) for name in ("old", "new")]
    masked = finished_run(tmp_path / "masked", instances(WON), track="standard")
    record = json.loads((folders[0] / "run.json").read_text())
    del record["identity"]["settings"]["track"]
    (folders[0] / "run.json").write_text(json.dumps(record))
    old, new, standard = (read_run_data(folder) for folder in (*folders, masked))
    assert differences(old, new).notable == ()
    (track,) = differences(old, standard).notable
    assert str(track) == "track: none against standard"
    assert not differences(old, standard).blocking


def test_part_of_the_house_and_a_heavy_base_are_other_experiments(tmp_path):
    of_2025 = {"sim": "omnigibson", "protocol": "2025"}
    choices = {
        "plain": {},
        "partial": {"partial_scene": True},
        "heavy": {"heavy_base": True},
        "both": {"partial_scene": True, "heavy_base": True},
        "older": {},  # had both, and no setting that says so
        "imported": {},
    }
    runs = {}
    for name, chosen in choices.items():
        folder = finished_run(tmp_path / name, instances(WON), **of_2025, **chosen)
        if name in ("older", "imported"):
            record = json.loads((folder / "run.json").read_text())
            for choice in ("partial_scene", "heavy_base"):
                del record["identity"]["settings"][choice]
            if name == "imported":
                record["identity"]["settings"]["policy"] = "imported:theirs"
            (folder / "run.json").write_text(json.dumps(record))
        runs[name] = read_run_data(folder)

    def words(other, kind="blocking"):
        return [str(each) for each in getattr(differences(runs["plain"], runs[other]), kind)]

    part, base = (f"{name}: no against" for name in ("part of the scene only", "base of 250 kg"))
    assert words("partial") == [f"{part} yes"]
    assert words("heavy") == [f"{base} yes"]
    assert words("both") == words("older") == [f"{part} yes", f"{base} yes"]
    assert words("imported") == []
    assert words("imported", "notable") == [f"{part} unknown", f"{base} unknown"]
    with pytest.raises(UsageError, match="part of the scene only: no against yes"):
        require_comparable([runs["plain"], runs["partial"]])


def test_a_run_is_not_compared_with_itself(tmp_path):
    run = read_run_data(finished_run(tmp_path / "one", instances(WON)))
    with pytest.raises(UsageError, match="given twice"):
        require_comparable([run, run])


def test_contracts_are_compared_field_by_field(tmp_path):
    runs = [
        read_run_data(
            finished_run(
                tmp_path / contract.name,
                instances(WON),
                policy={
                    "name": contract.name,
                    "contract": {"contract": contract.to_dict(), "forced": []},
                    "checkpoint": {"origin": contract.name},
                    "forced": False,
                    "forced_skill_id": None,
                    "forced_skill_progress": None,
                },
            )
        )
        for contract in (V4, V17)
    ]
    assert {str(entry) for entry in differences(*runs).contract} == {
        "image size: 504 against 224",
        "geometry size: 504 against 224",
        "extrinsics rows: left_wrist, right_wrist, head against head, left_wrist, right_wrist",
        "first action: 1 against 0",
        "progress output: probability against logit",
    }
    require_comparable(runs)  # a contract is part of the policy


# --- the command -----------------------------------------------------------------------------


def invoke(*words: object):
    return CliRunner(env={"COLUMNS": "160"}).invoke(app, ["compare", *map(str, words)])


def test_the_command_prints_tables_and_verdict(tmp_path):
    one = finished_run(tmp_path / "one", instances(*[LOST] * 8), policy={"name": "v4"})
    two = finished_run(tmp_path / "two", instances(*[WON] * 8), policy={"name": "v17"})
    result = invoke(one, two)
    assert result.exit_code == 0, result.output
    assert "v17 better: +100 points" in result.stdout
    assert "0 success, 8 failure, 0 error" in result.stdout
    assert "8 success, 0 failure, 0 error" in result.stdout
    assert "MuJoCo twin: not a benchmark score." in result.stdout


def test_as_json_it_is_one_document_without_nan(tmp_path):
    one = finished_run(tmp_path / "one", instances(WON, LOST))
    two = finished_run(tmp_path / "two", instances(BROKE, BROKE))
    result = invoke(one, two, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout, parse_constant=pytest.fail)
    assert document["mixed"] is False
    assert len(document["funnels"]) == 2


def test_a_damaged_episode_is_named_and_left_out(tmp_path):
    one = finished_run(tmp_path / "one", instances(WON, LOST))
    two = finished_run(tmp_path / "two", instances(WON, WON))
    (two / "episodes" / "clean_boxing_gloves-1-0" / "result.json").write_text("{")
    result = invoke(one, two, "--mix")
    assert result.exit_code == 0, result.output
    assert "clean_boxing_gloves-1-0 is left out" in result.stderr


@pytest.mark.parametrize(
    ("count", "options", "words"),
    [
        (1, [], "compare needs two runs or more, got 1: b1k-eval compare RUN RUN; "),
        (2, ["--level", "95"], "--level 95 must lie between 0 and 1"),
    ],
)
def test_wrong_usage_is_refused(tmp_path, count, options, words):
    paths = [finished_run(tmp_path / str(n), instances(WON)) for n in range(count)]
    result = invoke(*paths, *options)
    assert result.exit_code == 2
    assert words in result.stderr
