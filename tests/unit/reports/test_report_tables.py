from __future__ import annotations

import io
import json

import pandas as pd
import pytest

from nas.records import Objective, Role
from reports import tables, text
from reports.analysis import Analysis, analyse
from reports.document import to_json
from search_spaces.architecture import Architecture, Block
from search_spaces.reference import squeezebert_rule
from tests.fake_run import TEACHER, failed, fake_run, fake_run_of, fake_trial

BLOCK = Block(
    num_attention_heads=2,
    intermediate_size=96,
    q_groups=1,
    k_groups=2,
    v_groups=4,
    post_attention_groups=8,
    intermediate_groups=16,
    output_groups=32,
)
OTHER = Block(num_attention_heads=1, intermediate_size=64)
MIXED = Architecture(hidden_size=64, attention_head_size=32, blocks=(BLOCK, BLOCK, OTHER))


def three_trials(name: str = "fake") -> Analysis:
    return analyse(
        fake_run_of(
            fake_trial(0, architecture=squeezebert_rule(TEACHER), role=Role.SQUEEZEBERT_RULE, ratio=None),
            fake_trial(1, architecture=MIXED, accuracy=0.92, ratio=0.5),
            failed(fake_trial(2), failure="loss=nan | <b> at step 40"),
            name=name,
        )
    )


def test_the_frame_has_one_row_per_trial_with_what_is_known() -> None:
    frame = tables.frame(three_trials()).set_index("number")

    assert frame.index.tolist() == [0, 1, 2]
    assert frame["on_front"].tolist() == [False, True, False]
    assert frame["ratio"].iloc[0] == 1.0
    assert frame["accuracy"].iloc[1] == pytest.approx(0.92)
    assert pd.isna(frame["ratio"].iloc[2])
    assert frame["left_out"].iloc[2] == "loss=nan | <b> at step 40"
    assert frame["backend"].iloc[0] == "host"


def test_every_position_keeps_its_place_in_the_compact_groups() -> None:
    assert text.compact_groups(MIXED) == "1-2:1.2.4.8.16.32 3:1.1.1.1.1.1"


def test_the_csv_reads_back_as_the_frame() -> None:
    frame = tables.frame(three_trials())

    written = tables.csv_text(tables.rows(three_trials()))

    assert written.endswith("\n")
    copy = pd.read_csv(io.StringIO(written)).convert_dtypes()
    # A column in which nothing is known has no type in a file.
    pd.testing.assert_frame_equal(copy, frame.astype(copy.dtypes), check_exact=True)


def test_the_markdown_table_is_exact_without_times() -> None:
    arch = squeezebert_rule(TEACHER)
    rule = fake_trial(0, architecture=arch, role=Role.SQUEEZEBERT_RULE, accuracy=0.8, ratio=None)
    analysis = analyse(fake_run_of(rule, objectives=(Objective.ACCURACY, Objective.MACS)))

    assert tables.markdown(analysis, ["A | sentence."]).splitlines() == [
        "# Run fake",
        "",
        r"A \| sentence.",
        "",
        "| model | accuracy | P(front) | MACs | parameters |",
        "| --- | --- | --- | --- | --- |",
        "| trial 0 (SqueezeBERT's rule) | 80.0 % (78.2 to 81.8) | 100 % | 108 M | 9.51 M |",
        "",
        "Brackets hold 95 % intervals; P(front) is the probability of being on the front.",
    ]


def test_every_line_of_a_markdown_table_has_as_many_cells() -> None:
    lines = [line for line in tables.markdown(analyse(fake_run(20)), []).splitlines() if line.startswith("|")]

    assert len({line.count("|") for line in lines}) == 1


def test_times_in_exports_name_their_backend() -> None:
    analysis = three_trials()

    assert "this machine (host)" in tables.markdown(analysis, [])
    assert "this machine (host)" in tables.latex(analysis)


def test_latex_specials_are_escaped() -> None:
    table = tables.latex(three_trials(name=r"50%_of \x{$}"))

    assert r"50\%\_of \textbackslash{}x\{\$\}" in table
    assert table.count(r"\toprule") == table.count(r"\midrule") == table.count(r"\bottomrule") == 1


def test_latex_columns_match_their_declaration() -> None:
    lines = tables.latex(three_trials()).splitlines()
    declared = next(line for line in lines if r"\begin{tabular}" in line).split("{")[-1].rstrip("}")
    rows = [line for line in lines if line.endswith(r"\\")]

    assert {row.count(" & ") + 1 for row in rows} == {len(declared)}


def test_markup_in_a_name_stays_text_in_markdown() -> None:
    assert "<script>" not in tables.markdown(three_trials(name="<script>alert(1)</script>"), [])


def test_the_document_holds_the_raw_samples_of_every_process_once() -> None:
    analysis = three_trials()

    document = json.loads(to_json(analysis))

    measurement = analysis.run.trials[1].measurements[0]
    assert measurement.blocks is not None
    last = measurement.blocks[-1]
    assert document["schema_version"] == 1
    assert document["processes"][last.candidate.run_id]["samples_ns"] == list(last.candidate.samples_ns)
    assert document["trials"][1]["measurements"][0]["blocks"][-1]["candidate"] == last.candidate.run_id
    assert len(document["processes"]) == 2 * len(measurement.blocks) + 1


def test_the_architecture_in_the_document_can_be_read_back() -> None:
    document = json.loads(to_json(three_trials()))

    assert Architecture.from_json(json.dumps(document["trials"][1]["architecture"])) == MIXED


def test_the_document_names_the_answers() -> None:
    answers = json.loads(to_json(three_trials()))["answers"]

    assert (answers["front"], answers["ship"], answers["knee"]) == ([1], 1, 1)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(3_712_000_000, "3.71 G"), (51_090_000, "51.1 M"), (512_345_678, "512 M"), (12, "12"), (9_500, "9.50 k")],
)
def test_counts_keep_three_digits(value: int, expected: str) -> None:
    assert text.count(value) == expected
