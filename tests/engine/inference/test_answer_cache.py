"""Answers that are generated together are kept together: their groups stay as items come."""

from tasks.core.records import Message
from tasks.engine.inference import answer_cache
from tasks.engine.inference.answer_cache import Writing
from tasks.engine.inference.generation import Response
from tasks.io.generators.answers import Answers


def test_a_group_keeps_its_items_as_others_come():
    contents = [f"{'x' * (n % 7)}{n}" for n in range(200)]
    named = [{contents[i] for i in group} for group in answer_cache.groups(contents, 8)]
    more = [*contents, "xx new", "xxxxx new"]
    again = [{more[i] for i in group} for group in answer_cache.groups(more, 8)]
    assert sorted(item for group in again for item in group) == sorted(more)
    assert max(map(len, again)) <= 8
    assert sum(len(group) for group in again if group not in named) < 60
    assert sum(map(len, again)) / len(again) > 4


def test_an_answer_that_ended_with_its_program_is_none_that_went_on(tmp_path):
    def asked(programs):
        def apply(work, groups, number):
            return ([Response(f"{programs}", True)] for _ in groups)

        writing = Writing(4, 1, programs=programs)
        prompts, answers = [[Message("user", "Six times seven?")]], Answers(tmp_path)
        return answer_cache.respond(prompts, [""], writing, apply, answers, "weights", iter)[0].text

    assert [asked(True), asked(False)] == ["True", "False"]
