"""All attacks of a seed side by side: every round one call of the victim, every checkpoint one fit of all students.

Attacks do not meet: each has its own random numbers, data, student and record. What a round asks is answered at once;
votes, which no attack sees, are taken when enough queries wait for them.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from powsim.bank.records import Recording
from powsim.lab.attacks.base import Answers, Attack, Student, View
from powsim.lab.attacks.parts import NetStudent, logits_of
from powsim.lab.service import Metered, Service, joined, softmax
from powsim.lab.students import Lesson, fit_students, fresh_student
from powsim.lab.task import Images

ROUND = 32  # queries that an attack proposes at once
WAITING = 2048  # queries of all attacks that wait for votes
ALONE_EVERY = 2  # checkpoints, the last one among them, at which attacks that train by themselves are measured
OWN_KIND = ("in", "limited", "mixed")  # attackers whose images are the task's shift them while they train

Report = Callable[[float], None]
"""Takes the share of the work that is done."""


@dataclass
class Player:
    """One attack, how far it is, and what it left so far."""

    attack: Attack
    seed: int
    queries: int
    asked: int = 0
    student: Student | None = None
    fitted: NetStudent | None = None  # the same, where it is fitted here
    by_itself: bool = False  # whether the attack trains its student
    seen: list[Metered] = field(default_factory=list)
    waiting: list[tuple[Images, NDArray[np.float32]]] = field(default_factory=list)
    checkpoints: list[int] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    fidelity: list[float] = field(default_factory=list)


def play(
    service: Service,
    attacks: Mapping[str, type[Attack]],
    queries: Mapping[str, int],
    checkpoints: Sequence[int],
    *,
    steps: int,
    seed: int,
    device: str = "cpu",
    settings: Mapping[str, Mapping[str, float]] | None = None,
    report: Report | None = None,
) -> list[Recording]:
    """Return what each attack asked and stole, in the order of `attacks`.

    queries: of each attack; checkpoints: rising, the last one is the common number of queries, and an attack with
    another number has its checkpoints in proportion. steps: of each student over all checkpoints. settings: of an
    attack's view. The same seed gives the same recordings whatever attacks play beside, but for rounding.
    """
    own: Mapping[str, Mapping[str, float]] = settings or {}
    players = [
        Player(kind(_view(service, kind, seed, device, own.get(name, {}))), _own(seed, name), queries[name])
        for name, kind in attacks.items()
    ]
    shares = np.sqrt(np.array(checkpoints, float))
    fits = np.maximum(1, np.round(steps * shares / shares.sum())).astype(int)
    for number, checkpoint in enumerate(checkpoints):
        _ask(service, players, checkpoint / checkpoints[-1], checkpoints[-1])
        left = len(checkpoints) - 1 - number
        _teach(service, players, int(fits[number]), left % ALONE_EVERY == 0, left == 0, device)
        if report is not None:
            report((number + 1) / len(checkpoints))
    _vote(service, players)
    return [_recording(player, service) for player in players]


def _own(seed: int, name: str) -> int:
    """Return a seed that belongs to an attack, whatever attacks play beside it."""
    return int(np.random.SeedSequence([seed, zlib.crc32(name.encode())]).generate_state(1, np.uint64)[0] >> 2)


def _view(service: Service, kind: type[Attack], seed: int, device: str, settings: Mapping[str, float]) -> View:
    task = service.task
    return View(
        shape=task.shape,
        classes=task.classes,
        pool=task.users.x,
        outside=task.outside,
        outside_arms=task.outside_arms,
        arms=task.arms,
        rng=np.random.default_rng(_own(seed, kind.name)),
        oracle=service.costs if kind.needs_oracle else None,
        settings=dict(settings),
        device=device,
    )


def _ask(service: Service, players: Sequence[Player], share: float, usual: int) -> None:
    """Let every attack ask until it has this share of its queries, or nothing to ask."""
    going = list(players)
    while going:
        asking, proposals = [], []
        for player in going:
            # Longer attacks ask more at once, so that all are done after about as many rounds.
            once = max(1, round(ROUND * player.queries / usual))
            x = player.attack.propose(max(0, min(once, round(share * player.queries) - player.asked)))
            if len(x):
                asking.append(player)
                proposals.append(x)
        if not asking:
            return
        answers = service.answers(np.concatenate(proposals))
        ends = np.cumsum([len(x) for x in proposals])[:-1]
        for player, x, own in zip(asking, proposals, np.split(answers, ends), strict=True):
            player.attack.observe(x, _as_sold(own, player.attack.labels))
            player.asked += len(x)
            player.waiting.append((x, own))
        if sum(len(x) for player in players for x, _ in player.waiting) >= WAITING:
            _vote(service, players)
        going = asking


def _as_sold(logits: NDArray[np.float32], labels: str) -> Answers:
    """Return probabilities, or one-hot rows where only labels are sold."""
    if labels == "soft":
        return softmax(logits)
    classes: Answers = np.eye(logits.shape[1], dtype=np.float32)[logits.argmax(axis=1)]
    return classes


def _vote(service: Service, players: Sequence[Player]) -> None:
    """Take the votes on what waits for them, all in one call."""
    waiting = [(player, x, own) for player in players for x, own in player.waiting]
    if not waiting:
        return
    seen = service.metered(*(np.concatenate([row[column] for row in waiting]) for column in (1, 2)))
    begin = 0
    for player, x, _ in waiting:
        player.seen.append(seen.rows(slice(begin, begin + len(x))))
        begin += len(x)
    for player in players:
        player.waiting.clear()


def _teach(service: Service, players: Sequence[Player], steps: int, alone: bool, last: bool, device: str) -> None:
    """Fit the students on what their attackers know now, measure them and hand them over.

    alone: whether attacks that train by themselves, which may take long, are asked for their students too. last: no
    attack asks any more, so none needs its student.
    """
    pupils: list[Player] = []
    students: list[NetStudent] = []
    lessons: list[Lesson] = []
    for player in players:
        if player.by_itself and not alone:
            continue
        own = player.attack.own_student()
        x, targets = player.attack.training_set()
        if own is not None:
            player.student, player.by_itself = own, True
        elif len(x):
            fitted = player.fitted or fresh_student(service.task.shape, service.task.classes, player.seed, device)
            pupils.append(player)
            students.append(fitted)
            lessons.append(Lesson(x, targets, player.seed + player.asked, player.attack.data in OWN_KIND))
    for player, student in zip(pupils, fit_students(students, lessons, steps=steps), strict=True):
        player.student = player.fitted = student
    test = service.task.test
    victim = service.victim.logits(test.x).argmax(axis=1)
    for player in players:
        known = player.checkpoints and player.checkpoints[-1] == player.asked
        if player.student is None or known or (player.by_itself and not alone):
            continue
        classes = logits_of(player.student, test.x, device).argmax(dim=1).cpu().numpy()
        player.checkpoints.append(player.asked)
        player.accuracy.append(float(np.mean(classes == test.y)))
        player.fidelity.append(float(np.mean(classes == victim)))
        if not last:
            player.attack.student_updated(player.student)


def _recording(player: Player, service: Service) -> Recording:
    nothing = service.pool.rows(slice(0, 0))
    seen = joined([nothing, *player.seen])
    return Recording(
        player.attack.name,
        seen.votes,
        seen.knn,
        seen.entropy,
        seen.gap,
        np.array(player.checkpoints, np.int64),
        np.array(player.accuracy, np.float64),
        np.array(player.fidelity, np.float64),
    )
