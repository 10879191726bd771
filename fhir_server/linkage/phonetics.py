"""How a French name sounds, as a short key: names that sound alike have the same one. Pure.

The rules are data, in the order in which they apply (family of Phonex and Sonnex). They are meant for spelling at the
front desk and on the telephone: GAUTIER and GAUTHIER, THIBAUT and THIBAULT, LEFEVRE and LEFEBVRE have one key,
JEAN and JEANNE two.
"""

import re
from functools import lru_cache
from typing import Final

_RULES: Final[tuple[tuple[str, str], ...]] = (
    # sounds of several letters
    (r"EBVR", "EVR"),
    (r"EAU?X?(?=$)|AUL?[TDX]S?$|EAU|AU(?!M)", "O"),
    (r"OEU|EU", "E"),
    (r"PH", "F"),
    (r"SCH|SH", "CH"),
    (r"TH", "T"),
    (r"RH", "R"),
    (r"CK|QU|Q", "K"),
    (r"GU(?=[EIY])", "K0"),
    (r"GE(?=[AOU])", "J"),
    (r"ILL(?=[AEIOUY])", "I"),
    (r"Y", "I"),
    (r"W", "V"),
    # soft and hard
    (r"SC(?=[EI])|CC(?=[EI])|C(?=[EI])", "S"),
    (r"CH", "4"),
    (r"G(?=[EI])", "J"),
    (r"K0", "G"),
    (r"C", "K"),
    (r"(?<=[AEIOU])S(?=[AEIOU])|Z", "S"),
    (r"KS|X", "S"),
    (r"H", ""),
    # nasal vowels: 1 as in vin, 2 as in vent, 3 as in pont
    (r"(AIN|EIN|AIM|EIM)(?![AEIOUNM])", "1"),
    (r"(?<=I)EN(?![AEIOUNM])", "1"),
    (r"(IN|IM|UN|UM)(?![AEIOUNM])", "1"),
    (r"(E?AN|E?AM|EN|EM)(?![AEIOUNM])", "2"),
    (r"(ON|OM)(?![AEIOUNM])", "3"),
    # a mute e keeps the consonant before it (LOUISE, not LOUIS); other final consonants are mute
    (r"(?<=..)ES?$", "#"),
    (r"(AI|EI|ER$|EZ$|ET$)", "E"),
    (r"OU", "U"),
    (r"(?<=.)[STDPX]+$", ""),
    (r"#", ""),
    (r"(.)\1+", r"\1"),
)
_COMPILED: Final = tuple((re.compile(found), put) for found, put in _RULES)
_LONGEST: Final = 60


@lru_cache(maxsize=200_000)
def sound(glued: str) -> str:
    """The key of a name in comparison form (A to Z only); empty for an empty name. Longer names are cut."""
    key = glued[:_LONGEST]
    for found, put in _COMPILED:
        key = found.sub(put, key)
    return key or glued[:1]


@lru_cache(maxsize=200_000)
def skeleton(glued: str) -> str:
    """The key without its inner vowels where it is long enough: looser, to find candidates by."""
    key = sound(glued)
    return key[0] + re.sub(r"[AEIOU]", "", key[1:]) if len(key) > 4 else key


_LOOKS: Final = (("RN", "M"), ("NN", "M"), ("CL", "D"), ("VV", "V"), ("II", "U"))


@lru_cache(maxsize=200_000)
def looks(glued: str) -> str:
    """The name with the pairs of letters folded that character recognition takes for one."""
    for seen, as_one in _LOOKS:
        glued = glued.replace(seen, as_one)
    return glued
