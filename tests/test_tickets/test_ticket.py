"""Tickets: what they hold, what they weigh, and that they come back bit for bit."""

from __future__ import annotations

import hashlib
import json
import math
import pickle
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from sparsepop.ensemble import cost_of
from sparsepop.member import Member
from sparsepop.methods import ShareWeights, Superpose, rigl, static, sup_tickets
from sparsepop.outputs import evaluate
from sparsepop.recipe import Recipe
from sparsepop.schedule import TwoPhases
from sparsepop.tickets import DamagedTicket, Provenance, Ticket, load, take, take_cheap
from sparsepop.tickets.format import from_bytes, read_header, to_bytes
from sparsepop.train import train
from tests.cases import BATCH, CASES, STEPS, TASK, Toy
from tests.test_tickets.made import made

SOURCE = Provenance(
    experiment="x",
    data="digits",
    member=3,
    step=40,
    lineage=((1, 0, 20), (3, 20, 40)),
    parents=("a", "b"),
    recipe={"type": "Recipe", "steps": 40},
    ledger={"train_flops": 1e12},
    metrics={"validation_accuracy": 0.5},
    time="2026-01-01T00:00:00+00:00",
    located="/some/digits",
)


def assert_equal(one: Ticket, other: Ticket) -> None:
    assert one.id == other.id
    assert one.provenance == other.provenance
    for left, right in ((one.masks, other.masks), (one.weights, other.weights), (one.others, other.others)):
        assert list(left) == list(right)
        for name, value in left.items():
            assert value.dtype == right[name].dtype
            assert torch.equal(value, right[name])


@pytest.mark.parametrize("density", [1.0, 0.5, 0.1, 0.001])
def test_a_ticket_comes_back(density: float) -> None:
    ticket = made(density, provenance=SOURCE)
    assert_equal(from_bytes(to_bytes(ticket)), ticket)


def information(ticket: Ticket) -> float:
    """Bytes that the ticket's content holds: the entropy of masks with these counts, 4 for each alive weight,
    and what the buffers and other parameters take.
    """
    bits = 0.0
    for name, mask in ticket.masks.items():
        size, alive = mask.numel(), ticket.counts[name]
        bits += math.lgamma(size + 1) - math.lgamma(alive + 1) - math.lgamma(size - alive + 1)
    others = sum(value.numel() * value.element_size() for value in ticket.others.values())
    return bits / math.log(2) / 8 + 4 * ticket.alive + others


@pytest.mark.parametrize("model", ["lenet-300-100", "resnet-20"])
@pytest.mark.parametrize("density", [0.5, 0.1, 0.05, 0.01])
def test_a_file_is_within_ten_percent_of_what_it_holds(model: str, density: float) -> None:
    ticket = made(density, model=model, provenance=SOURCE)
    data = to_bytes(ticket)
    header = int.from_bytes(data[12:16], "little")
    assert information(ticket) < len(data) - header - 48 < 1.1 * information(ticket)
    assert header < 2500
    one_bit = sum(-(-mask.numel() // 8) for mask in ticket.masks.values())
    others = sum(value.numel() * value.element_size() for value in ticket.others.values())
    assert len(data) <= one_bit + 4 * ticket.alive + others + header + 48


def test_a_resnet_34_at_a_thousandth_takes_some_hundred_kilobytes() -> None:
    ticket = made(0.001, model="resnet-34")
    assert ticket.total > 21_000_000
    assert len(to_bytes(ticket)) < 400_000


def test_equal_networks_are_one_ticket_whatever_their_history() -> None:
    ticket = made()
    assert ticket.id == made(provenance=SOURCE).id
    assert ticket.id != made(seed=1).id
    name = next(iter(ticket.weights))
    changed = {**ticket.weights, name: ticket.weights[name].clone()}
    changed[name][0] += 1e-7
    assert replace(ticket, weights=changed).id != ticket.id
    assert replace(ticket, classes=11).id != ticket.id


def test_an_id_stays_what_it_is() -> None:
    """It names files that outlive this version: by hand, from nothing but the standard library and numpy."""
    ticket = Ticket(
        "m",
        (1, 1, 2),
        3,
        {"w": torch.tensor([[True, False, True]])},
        {"w": torch.tensor([1.5, -2.0])},
        {"b": torch.tensor(7)},
    )
    sha = hashlib.sha256(json.dumps(["m", [1, 1, 2], 3]).encode())
    sha.update(json.dumps(["mask", "w", "|b1", [1, 3]]).encode() + b"\xa0")
    sha.update(json.dumps(["weight", "w", "<f4", [2]]).encode() + b"\x00\x00\xc0\x3f\x00\x00\x00\xc0")
    sha.update(json.dumps(["other", "b", "<i8", []]).encode() + b"\x07" + 7 * b"\x00")
    assert ticket.id == sha.hexdigest()[:32]


def test_every_damaged_byte_is_noticed() -> None:
    data = to_bytes(made(0.01, model="lenet-300-100", provenance=SOURCE))
    for place in range(0, len(data), len(data) // 50):
        broken = bytearray(data)
        broken[place] ^= 1
        with pytest.raises(DamagedTicket):
            from_bytes(bytes(broken))
    for cut in (0, 7, 40, len(data) // 2, len(data) - 1):
        with pytest.raises(DamagedTicket):
            from_bytes(data[:cut])


def test_a_file_that_lies_about_its_network_is_refused() -> None:
    one, other = (to_bytes(made(seed=seed)) for seed in (0, 1))
    split = 16 + int.from_bytes(one[12:16], "little")
    body = 16 + int.from_bytes(other[12:16], "little")
    mixed = one[:split] + other[body:-32]
    with pytest.raises(DamagedTicket, match="holds the network"):
        from_bytes(mixed + hashlib.sha256(mixed).digest())
    newer = one[:8] + (3).to_bytes(4, "little") + one[12:-32]
    with pytest.raises(DamagedTicket, match="version 3"):
        from_bytes(newer + hashlib.sha256(newer).digest())


def test_files_from_before_there_was_sharing_are_read() -> None:
    data = to_bytes(made(provenance=SOURCE))
    end = 16 + int.from_bytes(data[12:16], "little")
    header = json.loads(zlib.decompress(data[16:end]))
    del header["shared"]
    packed = zlib.compress(json.dumps(header).encode())
    old = data[:12] + len(packed).to_bytes(4, "little") + packed + data[end:-32]
    assert_equal(from_bytes(old + hashlib.sha256(old).digest()), made(provenance=SOURCE))


def test_reading_unpickles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("unpickled")

    for place in (pickle, torch, np):
        for name in ("load", "loads", "Unpickler"):
            if hasattr(place, name):
                monkeypatch.setattr(place, name, refuse)
    assert from_bytes(to_bytes(made())).id == made().id


def test_a_header_is_read_alone() -> None:
    header = read_header(to_bytes(made(provenance=SOURCE)))
    assert (header["id"], header["model"]) == (made().id, "wrn-10-1")
    assert header["provenance"]["metrics"] == {"validation_accuracy": 0.5}


def test_unknown_scores_are_left_out() -> None:
    source = Provenance(metrics={"known": 1.0, "unknown": math.nan})
    assert from_bytes(to_bytes(made(provenance=source))).provenance.metrics == {"known": 1.0}


def test_parts_that_do_not_fit_are_refused() -> None:
    ticket = made()
    name = next(iter(ticket.masks))
    with pytest.raises(ValueError, match=f"{name} has"):
        replace(ticket, weights={**ticket.weights, name: torch.zeros(3)})
    with pytest.raises(ValueError, match="only one of mask and weights"):
        replace(ticket, weights={key: value for key, value in ticket.weights.items() if key != name})


# --- from members, and back


@pytest.mark.parametrize(
    "name",
    ["static", "rigl", "rigl-adamw", "keep-dense", "gmp", "dense", "sup-tickets", "sharing", "east"],
)
def test_the_loaded_network_is_the_members(name: str) -> None:
    member = Member.build(CASES[name].recipe, 1, TASK)
    *_, report = train(member, Toy(), every=STEPS)
    ticket = from_bytes(to_bytes(take(member)))
    assert (ticket.alive, ticket.total) == (member.masks.alive, member.masks.total)
    model, masks = load(ticket)
    assert masks.digest() == member.masks.digest()
    assert masks.counts == member.masks.counts
    assert (masks.alive, masks.total) == (member.masks.alive, member.masks.total)
    assert ticket.state().keys() == member.model.state_dict().keys()
    for name, value in member.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)
    member.model = model
    assert evaluate(member, Toy().batches("test", 30)).accuracy == pytest.approx(report.test.accuracy)  # type: ignore[union-attr]


def sharing() -> Member:
    member = Member.build(CASES["sharing"].recipe, 1, TASK)
    list(train(member, Toy(), every=STEPS))
    return member


def test_a_shared_weight_is_held_once() -> None:
    member = sharing()
    ticket = take(member, SOURCE)
    uses = sum(ticket.plain_masks()[name].numel() for name in ticket.shared)
    assert uses > 0
    assert sum(mask.numel() for mask in ticket.masks.values()) == ticket.total - uses
    assert ticket.alive == round(0.05 * ticket.total) < sum(member.masks.counts.values())
    assert len(to_bytes(ticket)) < len(to_bytes(replace(made(0.05, model="wrn-22-1"), provenance=SOURCE)))
    assert int.from_bytes(to_bytes(ticket)[8:12], "little") == 2  # older versions could not expand it
    assert int.from_bytes(to_bytes(made())[8:12], "little") == 1


def test_a_state_that_is_restored_after_the_end_leaves_the_same_ticket() -> None:
    member = sharing()
    again = Member.restore(member.recipe, 1, TASK, member.state())
    assert take(again).id == take(member).id


def test_shared_weights_that_stay_dense_are_no_part_of_the_count() -> None:
    dense = ("layer1.1.conv1.weight", "layer1.2.conv1.weight")
    recipe = replace(CASES["sharing"].recipe, model="resnet-20-w4", keep_dense=dense)
    member = Member.build(recipe, 1, TASK)
    list(train(member, Toy(), every=STEPS))
    ticket = from_bytes(to_bytes(take(member)))
    assert (ticket.alive, ticket.total) == (member.masks.alive, member.masks.total)
    assert all(torch.equal(v, load(ticket)[0].state_dict()[n]) for n, v in member.model.state_dict().items())


def test_float64_networks_keep_their_precision() -> None:
    recipe = Recipe("lenet-300-100", 2, static(0.1), batch=BATCH, precision="float64")
    member = Member.build(recipe, 1, TASK)
    list(train(member, Toy(), every=2))
    model, _ = load(from_bytes(to_bytes(take(member))))
    assert all(torch.equal(v, member.model.state_dict()[n]) for n, v in model.state_dict().items())


def test_a_ticket_shares_no_memory_with_its_member() -> None:
    member = Member.build(CASES["rigl"].recipe, 1, TASK)
    list(train(member, Toy(), every=STEPS))
    ticket, before = take(member), take(member).id
    for value in (*member.model.state_dict().values(), *member.masks.tensors.values()):
        value.zero_()
    assert replace(ticket).id == before


def test_only_finished_plain_networks_become_tickets() -> None:
    member = Member.build(CASES["rigl"].recipe, 1, TASK)
    with pytest.raises(ValueError, match="step 0 of 12: finish it first"):
        take(member)
    list(train(member, Toy(), every=STEPS))
    name = next(n for n in member.masks.params if member.masks.is_sparse(n))
    with torch.no_grad():
        member.masks.params[name].add_(1.0)
    with pytest.raises(ValueError, match="outside its masks are not zero"):
        take(member)
    member.model.register_module("extra", nn.Identity())
    with pytest.raises(ValueError, match="no plain wrn-10-1"):
        take(member)


def test_a_bfloat16_network_is_refused() -> None:
    ticket = made()
    name = next(iter(ticket.others))
    with pytest.raises(ValueError, match="bfloat16: train in float32"):
        to_bytes(replace(ticket, others={**ticket.others, name: ticket.others[name].bfloat16()}))


def test_another_architecture_of_that_name_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit lenet-300-100"):
        load(replace(made(model="lenet-300-100"), classes=7))


def test_cheap_tickets_are_the_networks_at_the_ends_of_cycles() -> None:
    recipe = Recipe("wrn-10-1", 12, sup_tickets(rigl(0.1, 4, interval=2), TwoPhases(4, 4, 2)), batch=BATCH)
    member, seen = Member.build(recipe, 1, TASK), {}
    for report in train(member, Toy(), every=1):
        if not report.final:
            seen[report.step] = {name: value.clone() for name, value in member.model.state_dict().items()}
    cheap = take_cheap(member, SOURCE)
    assert [ticket.provenance.step for ticket in cheap] == [4, 8, 12]
    assert {ticket.provenance.kind for ticket in cheap} == {"cheap"}
    for ticket in cheap[:2]:
        wanted = seen[ticket.provenance.step]  # type: ignore[index]
        assert all(torch.equal(value, wanted[name]) for name, value in ticket.state().items())
    assert {ticket.alive for ticket in cheap} == {member.masks.alive}
    assert isinstance(recipe.methods[-1], Superpose)
    told = [note.numbers["accuracy"] for note in report.notes if note.kind == "ticket"]
    assert [ticket.provenance.metrics["validation_accuracy"] for ticket in cheap] == told
    assert all(ticket.provenance.metrics["validation_loss"] > 0 for ticket in cheap)
    spent = [ticket.provenance.ledger["train_flops"] for ticket in cheap]
    assert spent == sorted(set(spent))
    assert spent[-1] <= report.train_flops
    for ticket in cheap:
        assert ticket.provenance.ledger["inference_flops"] == pytest.approx(cost_of([ticket]).inference_flops)
    plain = Member.build(CASES["rigl"].recipe, 1, TASK)
    assert take_cheap(plain) == []


def test_cheap_tickets_of_shared_weights_are_the_networks_of_then() -> None:
    methods = (ShareWeights(), *sup_tickets(rigl(0.1, 4, interval=2), TwoPhases(4, 4, 2)))
    recipe = Recipe("resnet-20-w4", 12, methods, batch=BATCH)
    member, seen = Member.build(recipe, 1, TASK), {}
    images, _ = Toy().batch(0, 0, 8)
    for report in train(member, Toy(), every=4):
        if not report.final:
            with torch.no_grad():
                seen[report.step] = member.model.eval()(images)
    *cheap, last = take_cheap(member, SOURCE)
    assert [ticket.provenance.step for ticket in (*cheap, last)] == [4, 8, 12]
    assert {ticket.alive for ticket in (*cheap, last)} == {member.masks.alive}
    for ticket in cheap:
        with torch.no_grad():
            assert torch.equal(load(from_bytes(to_bytes(ticket)))[0](images), seen[ticket.provenance.step])  # type: ignore[index]
        flops = ticket.provenance.ledger["inference_flops"]
        assert flops == pytest.approx(cost_of([ticket]).inference_flops)
