"""Every input format: read, recognised by its content, and refused with file, place and value."""

from __future__ import annotations

import io
import json
import struct
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cosma_sched.errors import InputError, MissingError, UsageError
from cosma_sched.experts.formats.reading import read_profile
from cosma_sched.experts.profile import Profile
from cosma_sched.experts.statistics import count_coactivation, count_loads, count_transitions
from tests.experts import oracle

LOADS = [[0, 0, 0, 0], [5, 1, 2, 4], [3, 3, 3, 3]]


def save(path: Path, **arrays: Any) -> str:
    np.savez(path, **arrays)
    return str(path)


def test_sglang_statistics_drop_dense_layers(write_json: Any) -> None:
    profile = read_profile(write_json("stat.json", {"logical_count": LOADS}))
    assert profile.layers == (1, 2)
    assert profile.dense_layers == (0,)
    assert profile.scenarios[0].loads.tolist() == LOADS[1:]
    assert profile.scenarios[0].name == "stat"


def test_sglang_statistics_sum_over_steps(write_json: Any) -> None:
    profile = read_profile(write_json("stat.json", {"logical_count": [LOADS, LOADS]}))
    assert profile.scenarios[0].loads.tolist() == [[10, 2, 4, 8], [6, 6, 6, 6]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1, 2], [3]], r"logical_count\[1\]: has 1 entries, the rows before have 2"),
        ([[1, -2]], r"logical_count\[0\]\[1\]: must be a finite count >= 0, got -2"),
        ([[1, "x"]], r"logical_count\[0\]\[1\]: must be a number, got .x"),
        ([[0, 0]], "holds no routed tokens"),
        ("no", "must be a list of rows"),
    ],
)
def test_bad_statistics_name_row_and_value(write_json: Any, rows: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_profile(write_json("stat.json", {"logical_count": rows}))


def test_csv_with_scenarios(tmp_path: Path) -> None:
    path = tmp_path / "counts.csv"
    path.write_text("layer,expert,count,scenario\n3,0,5,a\n3,1,2,a\n3,0,1,b\n3,1,9,b\n3,0,1,a\n")
    profile = read_profile(str(path))
    assert profile.layers == (3,)
    assert profile.dense_layers == (0, 1, 2)
    assert {s.name: s.loads.tolist() for s in profile.scenarios} == {"a": [[6, 2]], "b": [[1, 9]]}


def test_sglang_csv_of_several_ranks_add_up(tmp_path: Path) -> None:
    for rank, count in enumerate((3, 4)):
        (tmp_path / f"rank{rank}.csv").write_text(f"layer_id,expert_id,count\n0,0,{count}\n0,1,1\n")
    assert read_profile(str(tmp_path)).scenarios[0].loads.tolist() == [[7, 2]]
    assert read_profile([str(tmp_path / "rank0.csv"), str(tmp_path / "rank1.csv")]).scenarios[0].loads.tolist() == [[7, 2]]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0,1", "line 2: has 2 cells, the header has 3"),
        ("0,x,1", "line 2: expert must be a whole number"),
        ("0,1,-3", "line 2: layer 0 expert 1: count must be finite and >= 0, got '?\"?-3"),
        ("0,1,nan", "line 2: layer 0 expert 1: count must be finite"),
    ],
)
def test_a_bad_csv_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "counts.csv"
    path.write_text(f"layer,expert,count\n{line}\n")
    with pytest.raises(InputError, match=message):
        read_profile(str(path))


def test_vllm_records_fold_physical_loads_and_skip_other_types(tmp_path: Path) -> None:
    record = {
        "record_type": "eplb_load_stats",
        "version": 1,
        "step": 0,
        "num_ranks": 2,
        "expert_load": [[1, 2, 3, 4]],
        "p2l_map": [[0, 1, 2, 0]],
    }
    path = tmp_path / "loads.jsonl"
    path.write_text("\n".join(json.dumps(each) for each in (record, {"record_type": "other"}, record)) + "\n")
    assert read_profile(str(path)).scenarios[0].loads.tolist() == [[10, 4, 6]]


def test_vllm_load_history_sums_its_entries(write_json: Any) -> None:
    history = {"load_history": [{"logical_expert_load": [[1, 2]]}, {"logical_expert_load": [[3, 4]]}]}
    assert read_profile(write_json("history.json", history)).scenarios[0].loads.tolist() == [[4, 6]]


def test_exflow_ids_are_top_1(tmp_path: Path) -> None:
    np.save(tmp_path / "trace.npy", np.asarray([[0, 1], [1, 1], [2, 0]]))
    profile = read_profile(str(tmp_path / "trace.npy"))
    assert profile.top_k == 1
    assert profile.scenarios[0].transitions.tolist() == [[[0, 1, 0], [0, 1, 0], [1, 0, 0]]]


def trace_lines(tokens: np.ndarray, name: str = "experts") -> list[str]:
    return [
        json.dumps({"layer": layer, "token_idx": t, name: ids, "problem_id": t // 10})
        for t, token in enumerate(tokens.tolist())
        for layer, ids in enumerate(token)
    ]


@pytest.mark.parametrize("name", ["experts", "topk_ids"])
def test_a_token_trace_keeps_tokens_that_are_whole(tmp_path: Path, name: str) -> None:
    tokens = oracle.draw_tokens(0, num=30)
    lines = trace_lines(tokens, name)
    path = tmp_path / "trace.jsonl"
    path.write_text("\n".join([*lines[:-1], lines[0]]) + "\n")
    profile = read_profile(str(path), num_experts=6)
    assert len(profile.scenarios[0].tokens) == 28
    assert np.array_equal(profile.scenarios[0].tokens, tokens[1:29])
    assert set(profile.scenarios[0].requests.tolist()) == {0, 1, 2}
    assert "2 of 30 tokens dropped" in profile.notes[0]


def test_a_truncated_line_is_refused_or_skipped_and_counted(tmp_path: Path) -> None:
    lines = trace_lines(oracle.draw_tokens(0, num=30))
    path = tmp_path / "trace.jsonl"
    path.write_text("\n".join(lines) + '\n{"layer": 0, "tok')
    with pytest.raises(InputError, match=r"line 91: is not JSON.*--skip-bad-lines"):
        read_profile(str(path))
    profile = read_profile(str(path), skip_bad_lines=True)
    assert len(profile.scenarios[0].tokens) == 30
    assert "1 malformed lines skipped" in profile.notes[0]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"layer": 0, "token_idx": 0, "experts": [1, 1]}, "line 1: layer 0: an expert stands twice"),
        ({"layer": 0, "token_idx": 0, "experts": [1, -1]}, "line 1: layer 0: expert -1 is out of range"),
        ({"layer": 0, "token_idx": 0, "experts": [1, 7]}, "line 1: layer 0: expert 7 is out of range"),
        ({"layer": -1, "token_idx": 0, "experts": [1]}, "line 1: layer must be a whole number"),
        ({"layer": 0, "token_idx": 0, "experts": []}, "line 1: layer 0: experts must be a list"),
    ],
)
def test_a_bad_row_of_a_trace_is_named(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(InputError, match=message):
        read_profile(str(path), num_experts=6)


def test_an_archive_of_matrices(tmp_path: Path) -> None:
    tokens = oracle.draw_tokens(1)
    path = save(tmp_path / "m.npz", P=count_loads(tokens, 6), R=count_transitions(tokens, 6), C=count_coactivation(tokens, 6))
    profile = read_profile(path)
    assert profile.top_k == 2
    assert not profile.has_tokens


def test_an_archive_of_tokens_with_requests(tmp_path: Path) -> None:
    tokens = oracle.draw_tokens(1)
    profile = read_profile(save(tmp_path / "t.npz", T=tokens, request=np.arange(40) // 4))
    assert np.array_equal(profile.scenarios[0].tokens, tokens)
    assert profile.scenarios[0].requests.max() == 9


def test_an_archive_of_scenarios(tmp_path: Path) -> None:
    parts = [oracle.draw_tokens(seed) for seed in (1, 2)]
    path = save(
        tmp_path / "s.npz",
        P=np.stack([count_loads(part, 6) for part in parts]),
        R=np.stack([count_transitions(part, 6) for part in parts]),
        C_all=count_coactivation(np.concatenate(parts), 6),
        names=np.asarray(["one", "two"]),
        tokens=np.asarray([40, 40]),
    )
    profile = read_profile(path)
    assert [s.name for s in profile.scenarios] == ["one", "two"]
    assert np.array_equal(profile.pooled_transitions(), count_transitions(parts[0], 6) + count_transitions(parts[1], 6))
    assert profile.pooled_coactivation().sum() == 4 * 80 * 3


def test_a_pickled_archive_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "p.npz", P=np.asarray([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match="without pickled objects"):
        read_profile(path)


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    path = Path(save(tmp_path / "d.npz", P=np.ones((2, 4))))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match="cannot be read"):
        read_profile(str(path))


def safetensors(tensors: dict[str, np.ndarray]) -> bytes:
    header, data = {}, b""
    for name, array in tensors.items():
        kind = {"int64": "I64", "int32": "I32"}[str(array.dtype)]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [len(data), len(data) + array.nbytes]}
        data += array.tobytes()
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def trtllm(folder: Path, *, raw: bool, wrong: bool = False) -> tuple[str, np.ndarray]:
    tokens = oracle.draw_tokens(3)
    (folder / "meta_info.json").write_text(json.dumps({"num_experts": 6, "num_experts_per_token": 2}))
    for rank in range(2):
        part = tokens[rank::2]
        loads = count_loads(part, 6)
        loads[1, 0] += int(wrong and rank == 0)
        (folder / f"rank{rank}.safetensors").write_bytes(safetensors({f"0_{layer + 3}": loads[layer] for layer in range(3)}))
        if raw:
            ids = {f"0_{layer + 3}": np.ascontiguousarray(part[:, layer]).astype(np.int32) for layer in range(3)}
            (folder / f"rank{rank}_raw.safetensors").write_bytes(safetensors(ids))
    return str(folder), tokens


def test_a_trtllm_directory_of_counts(tmp_path: Path) -> None:
    path, tokens = trtllm(tmp_path, raw=False)
    profile = read_profile(path)
    assert profile.layers == (3, 4, 5)
    assert profile.top_k == 2
    assert np.array_equal(profile.scenarios[0].loads, count_loads(tokens, 6))


def test_a_trtllm_directory_of_ids(tmp_path: Path) -> None:
    path, tokens = trtllm(tmp_path, raw=True)
    assert np.array_equal(read_profile(path).scenarios[0].transitions, count_transitions(tokens, 6))


def test_trtllm_counts_and_ids_that_differ_are_refused(tmp_path: Path) -> None:
    path, _ = trtllm(tmp_path, raw=True, wrong=True)
    with pytest.raises(InputError, match="layer 4 expert 0: the statistics have"):
        read_profile(path)


@pytest.mark.parametrize("cut", [4, 20, -3])
def test_a_cut_safetensors_file_is_refused(tmp_path: Path, cut: int) -> None:
    path, _ = trtllm(tmp_path, raw=False)
    file = tmp_path / "rank0.safetensors"
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(InputError, match=r"rank0\.safetensors"):
        read_profile(path)


class Tensor:
    """What torch returns, as far as the reader looks."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def numpy(self) -> np.ndarray:
        return self.array


def torch_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, document: Any, name: str = "dump_0.pt") -> str:
    """Write a zip that looks like torch's and put a stand-in for torch in place that returns `document`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("dump/data.pkl", b"")
    (tmp_path / name).write_bytes(buffer.getvalue())
    fake = types.ModuleType("torch")

    def load(stream: Any, *, map_location: str, weights_only: bool) -> Any:
        assert weights_only
        assert map_location == "cpu"
        if isinstance(document, Exception):
            raise document
        return document

    fake.load = load  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", fake)
    return str(tmp_path / name)


def test_sglang_torch_statistics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = torch_file(tmp_path, monkeypatch, {"logical_count": Tensor(np.asarray(LOADS))})
    assert read_profile(path).scenarios[0].loads.tolist() == LOADS[1:]


def test_sglang_tokens_are_translated_from_physical_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mapping = np.tile(np.asarray([2, 0, 1, 2, 0, 3]), (2, 1))
    ids = np.full((2, 5, 2), -1)
    ids[1] = [[0, 1], [3, 4], [2, 5], [-1, -1], [5, 0]]
    document = {"records": [{"topk_ids_of_layer": Tensor(ids)}], "last_physical_to_logical_map": Tensor(mapping)}
    profile = read_profile(torch_file(tmp_path, monkeypatch, document))
    assert profile.layers == (1,)
    assert profile.scenarios[0].tokens[:, 0].tolist() == [[2, 0], [2, 0], [1, 3], [3, 2]]
    assert "1 of 5 tokens dropped" in profile.notes[0]


def test_ranks_of_several_dumps_become_homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = np.asarray([[[0, 1], [2, 1]]])
    document = {"records": [{"topk_ids_of_layer": Tensor(ids)}], "last_physical_to_logical_map": Tensor(np.asarray([[0, 1, 2, 3]]))}
    paths = [torch_file(tmp_path, monkeypatch, document, f"dump_{rank}.pt") for rank in range(2)]
    profile = read_profile(paths, num_experts=4)
    assert profile.scenarios[0].homes.shape == (2, 1, 4)
    assert profile.scenarios[0].loads.tolist() == [[2, 4, 2, 0]]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (ValueError("Weights only load failed"), "cannot be read safely .ValueError.; re-save it"),
        ({"logical_count": object()}, "holds a object; re-save it"),
        ({"other": 1}, "is no dump of SGLang"),
    ],
)
def test_other_objects_are_refused_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, document: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_profile(torch_file(tmp_path, monkeypatch, document))


def test_without_torch_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = torch_file(tmp_path, monkeypatch, {})
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingError, match=r"cosma-sched\[torch\]"):
        read_profile(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"{}", b'{"a": 1}\n{"b": 2}\n', b"PK\x03\x04junk", b"\x93NUMPYjunk", b"[1]"])
def test_what_is_no_profile_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(InputError, match="file"):
        read_profile(str(path))


def test_an_unknown_input_format_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="known ones are sglang"):
        read_profile(str(tmp_path), input_format="sgalng")


def test_a_directory_without_profiles_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a directory without"):
        read_profile(str(tmp_path))


def test_scenarios_of_another_model_are_refused(tmp_path: Path, write_json: Any) -> None:
    first, second = write_json("a.json", {"logical_count": LOADS}), write_json("b.json", {"logical_count": [[1, 2, 3]]})
    with pytest.raises(InputError, match=r"b\.json: has 1 MoE layers .* of 3 experts, but .*a.json has 2 MoE layers"):
        read_profile(first, scenarios=[second])


def test_the_mixtral_traces_count_to_the_published_matrices(moe: Path, mixtral: Profile) -> None:
    names = ("humaneval_2_routing.jsonl", "gsm8k_2_routing.jsonl")
    profile = read_profile([str(moe / "mixtral_8x7b_vllm" / name) for name in names])
    assert len(profile.scenarios[0].tokens) == 577
    assert np.array_equal(profile.scenarios[0].loads, mixtral.scenarios[0].loads)
    assert np.array_equal(profile.scenarios[0].transitions, mixtral.scenarios[0].transitions)
    assert np.array_equal(profile.scenarios[0].coactivation, mixtral.scenarios[0].coactivation)


def test_the_published_archives_load_as_they_are(moe: Path) -> None:
    profile = read_profile(str(moe / "gpt_oss_20b" / "counts_by_dataset.npz"))
    assert len(profile.scenarios) == 11
    assert profile.top_k == 4
    assert profile.pooled_coactivation().shape == (24, 32, 32)
