"""The reader of the journal finds each broken promise in a hand-made log, and nothing in a good one."""
import json

import pytest

import journal
from tm import Rec

RUN = "0000" + "0" * 26
A, B = "a" * 16, "b" * 16


def rec(offset, type_, key, value=None, **headers):
    names = [("tm-v", "1"), ("tm-type", type_)] + [("tm-" + k.replace("_", "-"), str(v)) for k, v in headers.items()]
    return Rec("j", 0, offset, key, json.dumps(value or {}).encode(), names, 0)


def owner(at, nonce):
    return rec(at, "owner", f"!owner/{nonce}", nonce=nonce)


def requested(at, run=RUN, uuid="u"):
    return rec(at, "run.requested", f"{run}/?run.requested/{uuid}{at}")


def result(at, epoch, nonce, ref="/do/0/a", attempt=1, run=RUN):
    return rec(at, "task.completed", f"{run}{ref}#0.0.{attempt}/task.completed@{nonce}", {"output": at}, epoch=epoch,
               nonce=nonce)


def end(at, epoch, nonce, type_="run.completed", run=RUN):
    return rec(at, type_, f"{run}/!{type_}@{nonce}", epoch=epoch, nonce=nonce)


def settled(at, epoch, nonce, consumed, run=RUN):
    return rec(at, "request.settled", f"{run}/!request.settled/{consumed}@{nonce}", epoch=epoch, nonce=nonce,
               consumed=consumed, status="duplicate")


GOOD = [owner(0, A), requested(1), result(2, 0, A), end(3, 0, A)]


def test_a_good_log():
    seen = journal.check(GOOD)
    assert seen.runs[RUN].end.type == "run.completed"
    assert seen.runs[RUN].outputs("/do/0/a") == [2]
    assert seen.void == []


def test_a_former_owners_facts_are_void_and_not_used():
    seen = journal.check([owner(0, A), requested(1), owner(2, B), result(3, 0, A), end(4, 0, A), result(5, 2, B),
                          end(6, 2, B)])
    assert [r.offset for r in seen.void] == [3, 4]
    assert seen.runs[RUN].outputs("/do/0/a") == [5]


def test_a_duplicate_request_is_settled():
    journal.check(GOOD + [requested(4), settled(5, 0, A, 4)])


@pytest.mark.parametrize("records, words", [
    (GOOD[:3], "I1: 1 of 1 runs have no end"),
    (GOOD + [rec(4, "run.faulted", f"{RUN}/!run.faulted@{A}", epoch=0, nonce=A)], "I1: .* ended 2 times"),
    (GOOD + [requested(4)], "requested again and that was not settled"),
    ([owner(0, A), requested(1), result(2, 0, A), owner(3, B), result(4, 3, B), end(5, 3, B)], "I3: .* 2 valid results"),
    (GOOD[:3] + [result(3, 0, A), end(4, 0, A)], "a fact key written twice"),
    (GOOD + [result(4, 0, A, "/do/1/b")], "a result after the run's end"),
    (GOOD + [settled(4, 0, A, 9)], "consumes offset 9, which is not before it"),
    (GOOD + [settled(4, 0, A, 2)], "consumes offset 2, which is no request"),
    (GOOD + [owner(4, A)], "I5: partition 0: a nonce was used"),
    ([owner(0, A), result(1, 0, A)], "a run that nothing requested"),
])
def test_broken_promises(records, words):
    with pytest.raises(AssertionError, match=words):
        journal.check(records)


def test_the_tide_mark():
    seen = journal.check(GOOD[:3], unfinished=[RUN])
    journal.check_tide_mark(seen, {0: (1, "")}, before={0: (0, "")})
    with pytest.raises(AssertionError, match="I4: partition 0: committed 2, but a run needs 1"):
        journal.check_tide_mark(seen, {0: (2, "")})
    with pytest.raises(AssertionError, match="went back from 1"):
        journal.check_tide_mark(seen, {0: (0, "")}, before={0: (1, "")})


def test_effects(ledger):
    import urllib.request

    def post(key, body):
        urllib.request.urlopen(urllib.request.Request(
            ledger.url("/p"), data=body, headers={"Idempotency-Key": key} if key else {}, method="POST")).read()

    post("k", b"1")
    post("k", b"1")
    post("l", b"2")
    assert journal.check_effects(ledger.entries()) == {"k": 2}
    post("l", b"3")
    with pytest.raises(AssertionError, match="key l"):
        journal.check_effects(ledger.entries())


def test_repeats():
    """One call in each ownership that had no result yet; one more is one too many."""
    records = [owner(0, A), requested(1), owner(2, B), result(3, 2, B), end(4, 2, B), owner(5, "c" * 16)]
    seen = journal.check(records)
    journal.check_repeats(seen, [0, 1], lambda _: (RUN, "a"))
    with pytest.raises(AssertionError, match=f"{RUN} a: 3 calls, at most 2 allowed"):
        journal.check_repeats(seen, [0, 1, 2], lambda _: (RUN, "a"))
    # Attempts: the second begins when the first has its result.
    again = journal.check(records[:4] + [result(4, 2, B, attempt=2), end(5, 2, B)])
    journal.check_repeats(again, [0, 1, 2], lambda _: (RUN, "a"))
    # No result yet: every ownership from the request on may have tried.
    journal.check_repeats(journal.check(records[:3], [RUN]), [0, 1], lambda _: (RUN, "a"))
