"""What a population has posted and decided, kept on storage: the exchange without its process."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from sparsepop.experiment import PBT
from sparsepop.population import rules
from sparsepop.population.rules import Assignment, Post
from sparsepop.storage import Storage

State = tuple[int, int]  # (member, generation): whose state, and from the end of which generation


class Board:
    """Posts in, assignments out, by (member, generation), each written to storage before anybody sees it.

    A synchronous board decides a generation once all members that still run have posted it; an asynchronous
    one decides each post at once, against the latest posts of the others. Everything is idempotent: a board
    opened anew on the same storage answers the same, and what is decided is never decided again.
    """

    def __init__(
        self, storage: Storage, search: PBT, members: Iterable[int], mode: str = "max", seed: int = 0
    ) -> None:
        self.storage = storage
        self.search = search
        self.mode = mode
        self.seed = seed
        self.running = set(members) - {int(name) for name in storage.names("retired")}
        self.decisions: dict[State, Assignment] = {}
        self._posts: dict[int, dict[int, Post]] = defaultdict(dict)  # by generation, then member
        self._newest: dict[int, Post] = {}
        self._decided: set[int] = set()  # generations
        self._read()

    def post(self, post: Post) -> None:
        """Note what a member has reached, and decide what can be decided now; a repeated post changes nothing
        that is decided."""
        if (post.member, post.generation) in self.decisions:
            return
        self.storage.write(f"posts/{_tag(post)}.json", json.dumps(rules.plain(asdict(post))).encode())
        self._note(post)
        if not self.search.synchronous:
            latest = rules.asynchronous(post, self._newest, **self._settings())
            self._journal(_tag(post), [latest])
        elif post.generation in self._decided:
            # it failed, the others went on without it, and now it catches up
            late = Assignment(post.member, post.generation, None, post.hp, None, "decided without it")
            self._journal(_tag(post), [late])
        else:
            self._settle(post.generation)

    def assignment(self, member: int, generation: int) -> Assignment | None:
        """What `member` does after `generation`; None while others still have to post it.

        KeyError for a generation that the member has not posted itself.
        """
        if (member, generation) not in self.decisions and member not in self._posts[generation]:
            raise KeyError(f"member {member} asks about generation {generation}, which it has not posted")
        return self.decisions.get((member, generation))

    def retire(self, member: int) -> None:
        """Never wait for `member` again, nor after a restart of the exchange; `welcome` takes it back."""
        self.storage.write(f"retired/{member:04d}", b"")
        self.running.discard(member)
        for generation in sorted(set(self._posts) - self._decided):
            self._settle(generation)

    def needed_states(self) -> set[State]:
        """The states that somebody may still load: everybody's last two, and the donors of those."""
        needed: set[State] = set()
        for member, post in self._newest.items():
            for generation in (post.generation, post.generation - 1):
                needed.add((member, generation))
                decision = self.decisions.get((member, generation))
                if decision is not None and decision.donor is not None:
                    assert decision.donor_generation is not None
                    needed.add((decision.donor, decision.donor_generation))
        return needed

    def newest(self, member: int) -> int:
        """The newest generation that a member has posted; -1 before the first."""
        return self._newest[member].generation if member in self._newest else -1

    def _settle(self, generation: int) -> None:
        posted = self._posts[generation]
        if self.search.synchronous and generation not in self._decided and self.running <= posted.keys():
            decided = rules.truncation(list(posted.values()), **self._settings())
            self._journal(f"g{generation:04d}", list(decided.values()))

    def _settings(self) -> dict[str, Any]:
        names = ("space", "quantile", "resample", "factors")
        return {name: getattr(self.search, name) for name in names} | {"mode": self.mode, "seed": self.seed}

    def _journal(self, tag: str, decided: list[Assignment]) -> None:
        # one file for what is decided together: a generation is decided whole or not at all
        lines = [each.to_json() for each in decided]
        self.storage.write(f"decisions/{tag}.jsonl", "\n".join(lines).encode())
        for each in decided:
            self._enter(each)

    def _note(self, post: Post) -> None:
        self._posts[post.generation][post.member] = post
        if post.generation >= self.newest(post.member):
            self._newest[post.member] = post

    def _enter(self, decision: Assignment) -> None:
        self.decisions[decision.member, decision.generation] = decision
        self._decided.add(decision.generation)

    def _read(self) -> None:
        for name in self.storage.names("posts"):
            text = self.storage.read(f"posts/{name}")
            self._note(Post(**json.loads(text, object_hook=rules.revive)))
        for name in self.storage.names("decisions"):
            for line in self.storage.read(f"decisions/{name}").decode().splitlines():
                self._enter(Assignment.from_json(line))


def welcome(storage: Storage) -> None:
    """Forget who was retired: a new run tries them again."""
    storage.delete_tree("retired")


def _tag(entry: Post | Assignment) -> str:
    return f"g{entry.generation:04d}-m{entry.member:04d}"
