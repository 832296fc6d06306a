"""Tickets of members, finished or in mid-training: kept in the experiment's store, listed in its table."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from pathlib import PurePath
from typing import TYPE_CHECKING

from sparsepop.describe import to_json
from sparsepop.ledger import learnables, state_bytes
from sparsepop.member import Member
from sparsepop.outputs import evaluate, own_part
from sparsepop.population.ancestry import spans
from sparsepop.population.records import score_of
from sparsepop.results import ancestors
from sparsepop.tickets import (
    FOLDER,
    Provenance,
    Ticket,
    TicketStore,
    broken_off,
    take,
    take_cheap,
    take_plain,
)
from sparsepop.tickets.format import to_bytes
from sparsepop.train import Report

if TYPE_CHECKING:
    from sparsepop.population.trial import MemberTrial

_COSTS = ("train_flops", "inference_flops", "dense_flops", "seconds", "bytes")


def harvest(trial: MemberTrial, report: Report, score: float) -> None:
    """Keep the ticket of `trial`'s member, and add its row, after the last report's rows were written; the
    cheap tickets that it was made of are kept beside it, without rows. A network that is no ticket costs
    nobody the finished training: it becomes an event instead.
    """
    store = TicketStore.of_experiment(trial.storage)
    try:
        ticket = take(trial.member, _provenance(trial, report, score))
        for each in (ticket, *take_cheap(trial.member, ticket.provenance)):
            store.write(each)
    except ValueError as error:
        _refuse(trial, report, error)
        return
    _list(trial, report, score, ticket)


def harvest_early(trial: MemberTrial, report: Report) -> None:
    """Keep a ticket, of kind `early`, of `trial`'s member as it would be if training had ended now, and write
    its row, or the event that says why there is none. The member is left as it was.
    """
    try:
        copy = broken_off(trial.member, trial.data)
        report = _report_of(copy, trial, report)
        score = score_of(report, trial.job.experiment.score)
        ticket = take_plain(copy, replace(_provenance(trial, report, score), kind="early"))
        TicketStore.of_experiment(trial.storage).write(ticket)
    except ValueError as error:
        _refuse(trial, report, error)
    else:
        _list(trial, report, score, ticket)
    trial.records.flush(f"g{trial.generation:04d}-ticket")


def _report_of(copy: Member, trial: MemberTrial, report: Report) -> Report:
    """The member's report, with what is otherwise of its `copy`."""
    same = trial.member.masks.enforced and copy.masks.digest() == trial.member.masks.digest()
    batches = own_part(copy, trial.data, "validation")
    return replace(
        report,
        validation=report.validation if same else evaluate(copy, batches),
        learnables=learnables(copy.model, copy.masks.params.values()),
        inference_flops=copy.forward_flops,
        dense_flops=copy.costs.dense_flops,
        bytes=state_bytes(copy.model.state_dict().values()) + state_bytes(copy.masks.tensors.values()),
    )


def _refuse(trial: MemberTrial, report: Report, error: ValueError) -> None:
    trial.records.event("no-ticket", trial.generation, report.step, message=str(error))


def _list(trial: MemberTrial, report: Report, score: float, ticket: Ticket) -> None:
    """The row of a ticket that is in the store."""
    source = ticket.provenance
    trial.records.ticket(
        trial.generation,
        report.step,
        ticket=ticket.id,
        path=f"{FOLDER}/{TicketStore.of_experiment(trial.storage).path(ticket.id)}",
        bytes=len(to_bytes(ticket)),
        density=ticket.density,
        alive=ticket.alive,
        prunable=ticket.total,
        score=score,
        validation_accuracy=report.validation.accuracy,
        lineage=[list(part) for part in source.lineage],
        recipe=dict(source.recipe),
        numbers=_numbers(ticket),
    )


def _provenance(trial: MemberTrial, report: Report, score: float) -> Provenance:
    experiment, member = trial.job.experiment, trial.start.member
    metrics = {"score": score, "validation_accuracy": report.validation.accuracy}
    metrics["validation_loss"] = report.validation.loss
    if report.test is not None:
        metrics |= {"test_accuracy": report.test.accuracy, "test_loss": report.test.loss}
    others = float(sum(report.learnables.values()))
    return Provenance(
        experiment=experiment.name,
        data=PurePath(experiment.data).name or experiment.data,
        located=experiment.data,
        member=member,
        step=report.step,
        lineage=_lineage(trial, report.step),
        recipe=to_json(trial.member.recipe),
        ledger={**{name: float(getattr(report, name)) for name in _COSTS}, "others": others},
        metrics=metrics,
        time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def _lineage(trial: MemberTrial, step: int) -> tuple[tuple[int, int, int], ...]:
    if trial.lineage is None:
        return tuple(ancestors(trial.storage, trial.start.member))
    return tuple(spans(trial.lineage, step))


def _numbers(ticket: Ticket) -> dict[str, float]:
    source = ticket.provenance
    return {**source.ledger, **{name: source.metrics[name] for name in source.metrics if "test" in name}}
