"""The errors, tested: each explains itself and has an exit code."""

from __future__ import annotations


def test_every_error_explains_itself_and_has_an_exit_code_of_the_contract() -> None:
    from imgindex import errors

    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) > 10
    for kind in kinds:
        assert kind.__doc__
        assert kind.exit_code in (1, 2)
        assert kind.__name__ in (errors.__doc__ or "")
