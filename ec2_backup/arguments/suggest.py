# Copyright: (c) 2026, the ec2-backup developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Find the word that was probably meant."""

import difflib
from collections.abc import Collection


def nearest(word: str, words: Collection[str]) -> str | None:
    """Return the word that was probably meant; None if there is none.

    It is the only word that begins so, or the most similar one.
    """
    begun = [each for each in sorted(words) if word and each.startswith(word)]
    close = difflib.get_close_matches(word, sorted(words), n=1)
    return begun[0] if len(begun) == 1 else next(iter(close or begun), None)
