"""What a population has posted and decided, kept on storage: the exchange without its process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict

from sparsepop.experiment import PBT, Search
from sparsepop.population import rules
from sparsepop.population.rules import Assignment, Post
from sparsepop.storage import Storage

Decide = Callable[[list[Post]], dict[int, Assignment]]


class Board:
    """Posts in, assignments out, by (member, generation), each written to storage before anybody sees it.

    Synchronous boards decide a generation when all members that still run have posted it; asynchronous ones decide for each post at
    once, against the latest posts of the others. Everything is idempotent: a board opened anew on the same storage answers the same.
    """

    def __init__(self, storage: Storage, search: Search, members: Iterable[int], mode: str, seed: int) -> None:
        self.storage = storage
        self.search = search
        self.mode = mode
        self.seed = seed
        self.running = set(members)
        self.posts: dict[tuple[int, int], Post] = {}
        self.decisions: dict[tuple[int, int], Assignment] = {}
        self._read()

    @property
    def synchronous(self) -> bool:
        return isinstance(self.search, PBT) and self.search.synchronous

    def post(self, post: Post) -> None:
        """Note what a member has reached; a repeated post replaces the first, unless its generation is decided."""
        if (post.member, post.generation) in self.decisions:
            return
        self.storage.write(f"posts/{_tag(post)}.json", json.dumps(rules.plain(asdict(post))).encode())
        self.posts[post.member, post.generation] = post

    def ask(self, member: int, generation: int) -> Assignment | None:
        """The assignment of `member` after `generation`; None while others still have to post."""
        if (member, generation) not in self.decisions:
            if (member, generation) not in self.posts:
                raise KeyError(f"member {member} asks about generation {generation}, which it has not posted")
            self._decide(member, generation)
        return self.decisions.get((member, generation))

    def retire(self, member: int) -> None:
        """Never wait for `member` again."""
        self.running.discard(member)

    def latest(self) -> dict[int, Post]:
        """Each member's newest post."""
        newest: dict[int, Post] = {}
        for _, post in sorted(self.posts.items()):
            newest[post.member] = post
        return newest

    def needed_states(self) -> set[tuple[int, int]]:
        """The (member, generation) states that somebody may still load: everybody's last two, and the donors of those."""
        needed: set[tuple[int, int]] = set()
        for member, post in self.latest().items():
            for generation in (post.generation, post.generation - 1):
                needed.add((member, generation))
                decision = self.decisions.get((member, generation))
                if decision is not None and decision.donor is not None and decision.donor_generation is not None:
                    needed.add((decision.donor, decision.donor_generation))
        return needed

    def _decide(self, member: int, generation: int) -> None:
        if not isinstance(self.search, PBT):
            self._journal(rules.none([self.posts[member, generation]]))
        elif self.synchronous:
            self._decide_generation(generation)
        else:
            post = self.posts[member, generation]
            self._journal({member: rules.asynchronous(post, self.latest(), **self._settings())})

    def _decide_generation(self, generation: int) -> None:
        posted = [post for (_, at), post in self.posts.items() if at == generation]
        if self.running <= {post.member for post in posted}:
            self._journal(rules.truncation(posted, **self._settings()))

    def _settings(self) -> dict[str, object]:
        assert isinstance(self.search, PBT)
        names = ("space", "quantile", "resample", "factors")
        return {name: getattr(self.search, name) for name in names} | {"mode": self.mode, "seed": self.seed}

    def _journal(self, decided: Mapping[int, Assignment]) -> None:
        # one file for what is decided together: a generation is decided whole or not at all
        new = {(each.member, each.generation): each for each in decided.values()}
        tag = _tag(next(iter(decided.values()))) if len(decided) == 1 else f"g{next(iter(new))[1]:04d}"
        lines = [each.to_json() for each in decided.values()]
        self.storage.write(f"decisions/{tag}.jsonl", "\n".join(lines).encode())
        self.decisions.update(new)

    def _read(self) -> None:
        for name in self.storage.names("posts"):
            post = Post(**json.loads(self.storage.read(f"posts/{name}"), object_hook=rules.revive))
            self.posts[post.member, post.generation] = post
        for name in self.storage.names("decisions"):
            for line in self.storage.read(f"decisions/{name}").decode().splitlines():
                each = Assignment.from_json(line)
                self.decisions[each.member, each.generation] = each


def _tag(entry: Post | Assignment) -> str:
    return f"g{entry.generation:04d}-m{entry.member:04d}"
