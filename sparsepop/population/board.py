"""What a population has posted and decided, kept on storage: the exchange without its process."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from sparsepop.experiment import PBT, Exchanging
from sparsepop.population import rules
from sparsepop.population.messages import Assignment, Post, plain, revive
from sparsepop.population.names import member_name, member_of
from sparsepop.population.needs import Needs, StateKey
from sparsepop.population.rounds import Merge, Outcome, Rounds, at_once, mergeable
from sparsepop.population.standings import Standings
from sparsepop.storage import Storage, side_by_side

Entry = tuple[str, list[Assignment]]  # of the journal: its name, and what is decided together


@dataclass(frozen=True)
class Terms:
    """What a population exchanges by: its search, who takes part, which scores are better, the seed of all
    that is drawn, and the rounds where partitions are merged."""

    search: Exchanging
    members: Collection[int]
    mode: str = "max"
    seed: int = 0
    rounds: Rounds | None = None


class Board:
    """Posts in, assignments out, by (member, generation), each written to storage before anybody sees it.

    A synchronous board decides a generation once all members that still run have posted it; an asynchronous
    one decides each post at once, against the latest posts of the others. Everything is idempotent: a board
    opened anew on the same storage answers the same, and what is decided is never decided again.

    Where there are `rounds`, a post at a round's end decides nothing: `merge` says whether a group is
    complete, and `merged`, what their members do then.
    """

    def __init__(self, storage: Storage, terms: Terms) -> None:
        self.storage = storage
        self.search = terms.search
        self.rounds = terms.rounds
        self.together = isinstance(terms.search, PBT) and terms.search.synchronous
        self.seed = terms.seed
        self.running = set(terms.members) - {int(name) for name in storage.names("retired")}
        self.decisions: dict[StateKey, Assignment] = {}
        self._posts: dict[int, dict[int, Post]] = defaultdict(dict)  # by generation, then member
        self._standings = Standings(terms.mode)
        self._unkept: set[int] = set()  # members whose retirement is not on storage yet
        self._decided: set[int] = set()  # generations
        self.needs = Needs()  # everybody's last two states, and the donors of those
        self._lost: set[StateKey] = set()
        self._merged: dict[int, Assignment] = {}  # the newest of each member
        # by merge.key: merged, and not yet compared
        self._ended: dict[tuple[int, int], tuple[Merge, Outcome]] = {}
        self._read()

    def known(self, post: Post) -> bool:
        """Whether what follows this post is decided."""
        return (post.member, post.generation) in self.decisions

    def keep(self, post: Post) -> None:
        """Write a post to storage; nothing else, so in any thread. `note` must follow."""
        self.storage.write(f"posts/{_tag(post)}.json", json.dumps(plain(asdict(post))).encode())

    def note(self, post: Post) -> None:
        """Count a post that is on storage."""
        self._posts[post.generation][post.member] = post
        if post.generation >= self.newest(post.member):
            self._standings.note(post)
            self.needs.update(post.member, self._needs_of(post.member))

    def due(self, post: Post) -> list[Entry]:
        """What is to be decided now that `post` is noted, by journal entry: `expect`, `journal`, `enter`."""
        if self.rounds is not None:
            merged = self._is_merged(self.rounds, self.rounds.group_of(post.member), post.generation)
            decided = [_late(post)] if merged else at_once(self.rounds, post)
            return [(_tag(post), decided)] if decided else []
        if not self.together:
            return [(_tag(post), [rules.asynchronous(post, self._standings, **self._settings())])]
        if self.settled(post.generation):
            return [(_tag(post), [_late(post)])]
        return self._ripe(post.generation)

    def expect(self, decided: Iterable[Assignment]) -> None:
        """Keep the states that decisions speak of while these are written: donors may go on meanwhile."""
        for each in decided:
            if each.source is not None:
                self.needs.update(each.member, self._needs_of(each.member) | {each.source})

    def journal(self, tag: str, decided: list[Assignment]) -> None:
        """Write decisions to storage; nothing else, so in any thread. `enter` must follow."""
        # one file for what is decided together: a generation is decided whole or not at all
        lines = [each.to_json() for each in decided]
        self.storage.write(f"decisions/{tag}.jsonl", "\n".join(lines).encode())

    def enter(self, decided: Iterable[Assignment]) -> None:
        """Answer with decisions that are on storage."""
        for each in decided:
            self.decisions[each.member, each.generation] = each
            self._decided.add(each.generation)
            if each.group is not None and each.generation >= self._merge_of(each.member):
                self._merged[each.member] = each
            self.needs.update(each.member, self._needs_of(each.member))

    def settled(self, generation: int) -> bool:
        """Whether a generation is decided, at least for those who have posted it."""
        return generation in self._decided

    def assignment(self, member: int, generation: int) -> Assignment | None:
        """What `member` does after `generation`; None while others still have to post it.

        One that the others went on without gets the newest merge. KeyError for a generation that the member
        has not posted itself, unless it is where rounds begin.
        """
        if self._merge_of(member) > generation:
            return self._merged[member]
        found = self.decisions.get((member, generation))
        begins = self.rounds is not None and generation == self.rounds.start
        if found is None and not begins and member not in self._posts[generation]:
            raise KeyError(f"member {member} asks about generation {generation}, which it has not posted")
        return found

    def merge(self, member: int) -> Merge | None:
        """The round of `member`'s group that can be merged now: nothing that happens to a member makes
        another group's ready."""
        rounds = self.rounds
        if rounds is None:
            return None
        members = rounds.members_of(group := rounds.group_of(member))
        generation = max(self.newest(each) for each in members)
        ended = (group, generation) in self._ended or self._is_merged(rounds, group, generation)
        if ended or not rounds.end_with(generation):
            return None
        gone = [each for each in members if each not in self.running]
        lost = [each for each in members if (each, generation) in self._lost]
        found = mergeable(rounds, group, generation, self._posts[generation], gone, lost)
        return None if found is None else replace(found, begun_from=self._taken(members, generation - 1))

    def merged(self, merge: Merge, outcome: Outcome) -> list[Entry]:
        """What a merge decides, by journal entry: `expect`, `journal`, `enter`. Nothing where its group is
        yet to be compared with others.
        """
        assert self.rounds is not None
        if not self.rounds.compared(merge.generation):
            return [self._alone(self.rounds, merge, outcome)]
        self._ended[merge.key] = merge, outcome
        return self._compared(self.rounds, merge.generation)

    def merged_from(self, group: int) -> set[int]:
        """The generations of `group` whose merged networks somebody's newest round gave them: where groups
        are compared, one that failed for good may have taken another group's, and later runs try it again.
        """
        return {each.generation for each in self._merged.values() if each.group == group}

    def lose(self, member: int, generation: int) -> None:
        """Note that `member` was killed within `generation`: its group may be done before it comes back."""
        self._lost.add((member, generation))

    def missing(self, member: int, generation: int) -> int | None:
        """Somebody who will never post and without whom `member` cannot go on after `generation`."""
        if self.rounds is None or self.assignment(member, generation) is not None:
            return None
        rounds, posted = self.rounds, self._posts[generation]
        if generation == rounds.start:
            awaited: Iterable[int] = [rounds.leader_of(member)]
        else:
            awaited = rounds.members_of(rounds.group_of(member)) if rounds.patient else []
        return next((each for each in awaited if each not in self.running and each not in posted), None)

    def retire(self, member: int) -> None:
        """Never wait for `member` again: `ripe` says what can be decided now. `keep_retired` must follow."""
        self.running.discard(member)
        self._unkept.add(member)

    def keep_retired(self) -> None:
        """Write to storage whom nobody waits for, so that a restarted exchange does not either; what fails is
        left to the next call. In any thread. `welcome` takes it back."""
        for member in sorted(self._unkept):
            self.storage.write(f"retired/{member:04d}", b"")
            self._unkept.discard(member)

    def ripe(self) -> list[Entry]:
        """What can be decided without anybody's post, for somebody has retired: `expect`, `journal`,
        `enter`."""
        if self.rounds is not None:
            rounds, generations = self.rounds, sorted({generation for _, generation in self._ended})
            return [entry for generation in generations for entry in self._compared(rounds, generation)]
        return [
            entry
            for generation in sorted(set(self._posts) - self._decided)
            for entry in self._ripe(generation)
        ]

    def newest(self, member: int) -> int:
        """The newest generation that a member has posted; -1 before the first."""
        newest = self._standings.latest.get(member)
        return -1 if newest is None else newest.generation

    def _ripe(self, generation: int) -> list[Entry]:
        posted = self._posts[generation]
        if not self.together or self.settled(generation) or not self.running <= posted.keys():
            return []
        decided = rules.synchronous(list(posted.values()), mode=self._standings.mode, **self._settings())
        return [(f"g{generation:04d}", list(decided.values()))]

    def _alone(self, rounds: Rounds, merge: Merge, outcome: Outcome) -> Entry:
        return f"g{merge.generation:04d}-p{merge.group:04d}", rounds.after([(merge, outcome)], self.running)

    def _compared(self, rounds: Rounds, generation: int) -> list[Entry]:
        """What is decided once all groups have ended a round, but for those that never will."""
        ended = {
            group: each
            for (group, when), each in sorted(self._ended.items(), key=lambda entry: entry[0])
            if when == generation and not self._is_merged(rounds, group, when)
        }
        if self.settled(generation):  # by those that did not wait for a group with somebody missing
            return [self._alone(rounds, *each) for each in ended.values()]
        groups = {rounds.group_of(member) for member in self.running}
        if not ended or any(self._ends(rounds, group, generation) for group in groups - ended.keys()):
            return []
        return [(f"g{generation:04d}", rounds.after(list(ended.values()), self.running))]

    def _ends(self, rounds: Rounds, group: int, generation: int) -> bool:
        """Whether a group that has not ended a round yet will."""
        posted = self._posts[generation]
        whole = all(each in self.running or each in posted for each in rounds.members_of(group))
        return whole or not rounds.patient

    def _taken(self, members: Iterable[int], generation: int) -> int | None:
        """The group whose merged network the `members` of one group took after `generation`."""
        decided = (self.decisions.get((each, generation)) for each in members)
        return next((each.group for each in decided if each is not None and each.group is not None), None)

    def _is_merged(self, rounds: Rounds, group: int, generation: int) -> bool:
        """Whether a round of a group is over."""
        members = rounds.members_of(group)
        return rounds.end_with(generation) and any((each, generation) in self.decisions for each in members)

    def _merge_of(self, member: int) -> int:
        """The newest round that was merged with `member`; -1 before the first."""
        return self._merged[member].generation if member in self._merged else -1

    def _settings(self) -> dict[str, Any]:
        names = ("space", "selection", "quantile", "resample", "factors")
        return {name: getattr(self.search, name) for name in names} | {"seed": self.seed}

    def _needs_of(self, member: int) -> set[StateKey]:
        newest = self.newest(member)
        if newest < 0:
            return self._start_of(member)
        needed = {(member, newest), (member, newest - 1)}
        decisions = [self.decisions.get(state) for state in needed]
        for each in decisions:
            if each is not None and each.source is not None:
                needed.add(each.source)
        return needed

    def _start_of(self, member: int) -> set[StateKey]:
        """The state that `member` is still to start from: its leader may be far beyond it by then."""
        found = self.decisions.get((member, self.rounds.start)) if self.rounds is not None else None
        return {found.source} if found is not None and found.source is not None else set()

    def _read(self) -> None:
        for text in self._contents("decisions", self.storage.names("decisions")):
            self.enter(Assignment.from_json(line) for line in text.decode().splitlines())
        for text in self._contents("posts", self._unfinished_posts()):
            self.note(Post(**json.loads(text, object_hook=revive)))

    def _contents(self, folder: str, names: list[str]) -> Iterator[bytes]:
        return side_by_side(self.storage.read, [f"{folder}/{name}" for name in names])

    def _unfinished_posts(self) -> list[str]:
        """Names of the posts that still matter: of what is undecided, and everybody's newest."""
        names = {_state(name): name for name in self.storage.names("posts")}
        newest = {member: (member, generation) for member, generation in sorted(names)}.values()
        return [name for state, name in names.items() if state not in self.decisions or state in newest]


def welcome(storage: Storage) -> None:
    """Forget who was retired: a new run tries them again."""
    storage.delete_tree("retired")


def _late(post: Post) -> Assignment:
    """For one that failed, without which the others went on, and which now catches up."""
    return Assignment(post.member, post.generation, None, post.hp, None, "decided without it")


def _tag(entry: Post | Assignment) -> str:
    return f"g{entry.generation:04d}-{member_name(entry.member)}"


def _state(name: str) -> StateKey:
    """Member and generation of a post, by the name of its file."""
    generation, member = name.removeprefix("g").removesuffix(".json").split("-")
    return member_of(member), int(generation)
