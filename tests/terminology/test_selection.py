"""The logic of selections against plain sets: what is claimed is true, whatever the gaps really hold."""

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from terminology.selection import Gap, Member, Selection, of_members

SYSTEMS = ("s", "t")
CODES = "abcd"
UNIVERSE = frozenset((system, code) for system in SYSTEMS for code in CODES)


@dataclass(frozen=True)
class Known:
    """A selection, and what it really selects; `sure` says that nothing in it is a partial gap."""

    selection: Selection
    really: frozenset[tuple[str, str]]
    sure: bool


def members(keys: frozenset[tuple[str, str]]) -> Selection:
    return of_members(Member(*key) for key in sorted(keys))


@st.composite
def leaves(draw: st.DrawFn) -> Known:
    """Listed codes, a system as a whole, or a part of one of which some codes are known."""
    listed = draw(st.frozensets(st.sampled_from(sorted(UNIVERSE)), max_size=4))
    kind = draw(st.sampled_from(["listed", "whole", "part"]))
    if kind == "listed":
        return Known(members(listed), listed, True)
    system = draw(st.sampled_from(SYSTEMS))
    of_system = frozenset(key for key in UNIVERSE if key[0] == system)
    if kind == "whole":
        return Known(Selection(gaps={system: Gap(True, "absent")}), of_system, True)
    shown, hidden = listed & of_system, draw(st.frozensets(st.sampled_from(sorted(of_system))))
    selection = Selection(members(shown).members, {system: Gap(False, "fragment")})
    return Known(selection, shown | hidden, False)


def joined(parts: st.SearchStrategy[Known]) -> st.SearchStrategy[Known]:
    def join(one: Known, name: str, other: Known) -> Known:
        selection = getattr(one.selection, name)(other.selection)
        really = {"both": one.really & other.really, "either": one.really | other.really,
                  "without": one.really - other.really}[name]  # fmt: skip
        return Known(selection, really, one.sure and other.sure)

    return st.builds(join, parts, st.sampled_from(["both", "either", "without"]), parts)


def test_what_was_taken_out_of_what_is_taken_out_is_not_lost() -> None:
    """All but (all but a) is a, though nobody has listed it."""
    whole = Selection(gaps={"s": Gap(True, "absent")})
    left = whole.without(whole.without(members(frozenset({("s", "a")}))))
    assert left.verdict(("s", "a")) is None
    assert left.verdict(("t", "a")) is False


@settings(max_examples=300)
@given(st.recursive(leaves(), joined, max_leaves=6))
def test_what_is_claimed_is_true(known: Known) -> None:
    """In is in, out is out; members and tokens too."""
    for key in UNIVERSE:
        verdict = known.selection.verdict(key)
        assert verdict is None or verdict is (key in known.really)
    assert known.selection.members.keys() <= known.really


@settings(max_examples=300)
@given(st.recursive(leaves(), joined, max_leaves=6))
def test_nothing_is_left_open_without_need(known: Known) -> None:
    """Where nothing but lists and whole systems is joined, and no gap had to be opened, all is known."""
    if known.sure and all(gap.whole for gap in known.selection.gaps.values()):
        assert all(known.selection.verdict(key) is not None for key in UNIVERSE)
    if not known.selection.gaps:
        assert known.selection.members.keys() == known.really
