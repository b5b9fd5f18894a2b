"""What a replica does to its run, in the database and in the model: rules of the state machine."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import ClassVar

from hypothesis.stateful import RuleBasedStateMachine

from harvestd.catalog.script import Script
from harvestd.loading.facade import Db
from harvestd.loading.fenced import Fenced
from harvestd.loading.seats import Binding
from harvestd.planning.state import after_attempt
from harvestd.planning.window import due_windows, joined
from harvestd.runs.claims import Claim, Ending, Listed, Refusal
from harvestd.terms import Outcome, Window
from tests.builders import TICK, silence
from tests.runs.life import HOURS, Life
from tests.runs.living import HOUR, KEY, Hand, Replica, World, refused_unless, taken_over


class Attempts(RuleBasedStateMachine):
    """Each method does one thing in the database and in the model, where it can be done."""

    world: ClassVar[World]
    life: Life
    script: Script

    def claim(self, name: str) -> None:
        one = self.world.replicas[name]
        listed = self.world.do(self.world.listed(one.claims.replica_id))
        if listed is None or one.hand is not None:
            return
        claim = self.world.do(one.claims.claim(listed, self.life.plugin))
        assert isinstance(claim, Claim)
        self.life.claim(name)
        windows = due_windows(claim.ledger, until=self.world.at(HOURS), width=self.script.width)
        one.hand = Hand(claim, windows, next(windows, None))

    def claim_in_vain(self, name: str, behind: int) -> None:
        """What is held, waits, rests or changed since it was listed is not given."""
        row = self.life.row
        if row is None or not (
            behind or row.holder or row.waiting or row.retired or self.life.paused
        ):
            return
        number = "SELECT run_no FROM data_source_run WHERE tenant_id = $1"
        run_no = self.world.do(self.world.sql.fetchval(number, KEY.tenant_id))
        listed = Listed(KEY, run_no, row.fence - behind)
        answer = self.world.do(self.world.replicas[name].claims.claim(listed, "stale"))
        assert isinstance(answer, Refusal)

    def _in_hand(self) -> Iterator[tuple[Replica, Hand, bool]]:
        """What each replica believes to hold, and whether it does."""
        row = self.life.row
        for one in self.world.replicas.values():
            if one.hand is not None:
                mine = row is not None and row.holder == one.name
                yield one, one.hand, mine and row is not None and row.fence == one.hand.claim.fence

    def cover(self) -> None:
        """A window is done: into the ledger of whoever holds the run, and of nobody else."""
        for one, hand, mine in list(self._in_hand()):
            if hand.window is None:
                continue
            covers = hand.window.covers
            with refused_unless(mine):
                self.world.do(one.claims.cover(hand.claim, [covers]))
            if mine:
                self._model_covers(covers)
                hand.covered = joined(hand.covered, covers)
                hand.window = next(hand.windows, None)

    def checkpoint(self, part: int) -> None:
        """A script commits a part of its window, on a seat, through the facade."""
        for one, hand, mine in list(self._in_hand()):
            if hand.window is None:
                continue
            covers, claim = hand.window.covers, hand.claim
            to = min(covers.start + part * HOUR, covers.end)
            binding = Binding(KEY, claim.run_no, claim.fence, covers.start, covers)
            fenced = Fenced(one.seats, binding)
            start = self.world.hour(covers.start)
            within = range(start or 0, self.world.hour(covers.end) or 0)
            row = self.life.row
            reached = max((h + 1 for h in within if row and h in row.covered), default=start)
            backwards = (self.world.hour(to) or 0) < (reached or 0)
            with refused_unless(mine, backwards=backwards):
                self.world.do(Db(fenced, self.world.shapes).checkpoint(to))
            self.world.do(fenced.end())
            if mine and not backwards:
                self._model_covers(Window(covers.start, to))

    def _model_covers(self, window: Window) -> None:
        start, end = self.world.hour(window.start), self.world.hour(window.end)
        assert self.life.row is not None and start is not None and end is not None
        self.life.row.cover(start, end)

    def end(self, outcome: str) -> None:
        """An attempt ends; one that lost its run is not recorded, and given back."""
        until = datetime.now(UTC) + HOUR if outcome == "waiting until" else None
        word = Outcome(outcome.removesuffix(" until"))
        for one, hand, mine in list(self._in_hand()):
            follows = after_attempt(
                word,
                failures=hand.claim.failures,
                interval=self.script.interval,
                tick=TICK,
                jitter=0,
                wait_until=until,
            )
            ending = Ending(word, follows, hand.covered, windows=len(hand.covered), rows=1)
            assert self.world.do(one.claims.record(hand.claim, ending)) == mine
            if mine:
                self.life.end(outcome)
            else:
                self._give_back(one, hand)
            one.hand = None

    def _give_back(self, one: Replica, hand: Hand) -> None:
        self.world.do(one.claims.give_back([hand.claim.run_no]))
        if self.life.row is not None and self.life.row.holder == one.name:
            self.life.row.give_up()

    def heartbeat(self) -> None:
        """A holder learns with its next beat that its run was taken from it."""
        for one, hand, mine in list(self._in_hand()):
            beat = self.world.do(one.heartbeat.beat({hand.claim.run_no: hand.claim.fence}))
            assert (beat.alive, set(beat.stale)) == (True, set() if mine else {hand.claim.run_no})
            if not mine:
                self._give_back(one, hand)
                one.hand = None

    def lose_the_answer(self) -> None:
        """What the database says is ours, and nobody works on, is let go."""
        for one, hand, mine in list(self._in_hand()):
            held = {hand.claim.run_no: hand.claim.fence}
            again = self.world.do(one.claims.give_back_strays(held, set))
            if mine:
                self.life.stray()
                assert (hand.claim.run_no in again) == (self.life.row and self.life.row.due)
                one.hand = None

    def die(self, name: str) -> None:
        """Another takes over; the dead one wakes up, and nothing that it sends counts."""
        one = self.world.replicas[name]
        other = self.world.replicas["two" if name == "one" else "one"]
        self.world.do(silence(self.world.url, one.claims.replica_id))
        freed = self.world.do(taken_over(other.heartbeat))
        row = self.life.row
        held = row is not None and row.holder == name
        assert freed == ([KEY] if held else [])
        if held:
            self.life.bury()
        if one.hand is not None:
            claim = one.hand.claim
            beat = self.world.do(one.heartbeat.beat({claim.run_no: claim.fence}))
            assert (beat.alive, set(beat.stale)) == (False, {claim.run_no})
        self.cover_and_record_in_vain(one)
        self.world.do(one.born())

    def cover_and_record_in_vain(self, one: Replica) -> None:
        hand = one.hand
        if hand is None:
            return
        if hand.window is not None:
            with refused_unless(mine=False):
                self.world.do(one.claims.cover(hand.claim, [hand.window.covers]))
        follows = after_attempt(Outcome.COMPLETED, failures=0, interval=None, tick=TICK, jitter=0)
        assert not self.world.do(one.claims.record(hand.claim, Ending(Outcome.COMPLETED, follows)))

    def leave(self, name: str) -> None:
        """A replica ends cleanly, and leaves nothing behind."""
        one = self.world.replicas[name]
        self.world.do(one.claims.leave())
        if self.life.row is not None and self.life.row.holder == name:
            self.life.row.give_up()
        self.world.do(one.born())
