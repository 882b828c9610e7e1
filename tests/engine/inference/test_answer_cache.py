"""Answers that are generated together are kept together: their groups stay as items come."""

from tasks.engine.inference import answer_cache


def test_a_group_keeps_its_items_as_others_come():
    contents = [f"{'x' * (n % 7)}{n}" for n in range(200)]
    named = [{contents[i] for i in group} for group in answer_cache.groups(contents, 8)]
    more = [*contents, "xx new", "xxxxx new"]
    again = [{more[i] for i in group} for group in answer_cache.groups(more, 8)]
    assert sorted(item for group in again for item in group) == sorted(more)
    assert max(map(len, again)) <= 8
    assert sum(len(group) for group in again if group not in named) < 60
    assert sum(map(len, again)) / len(again) > 4
