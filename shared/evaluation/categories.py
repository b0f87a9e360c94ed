"""Match a model's labels and a data set's categories by name, since equal numbers may mean different classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from featlink.shared.errors import ConflictError
from featlink.shared.evaluation.coco import Category, Detection, GroundTruth
from featlink.shared.evaluation.mending import plain_name

_NOTHING = {"__background__", "n/a"}
_SHOWN = 12


@dataclass(frozen=True)
class Labels:
    """What a model's labels are in a data set.

    Attributes:
        ids: category id by label; None where each label is the id. Labels that are not in it are of no category of
            the data set, and what they find is left out: it would count as something else.
        unknown: the categories that the model does not know.
    """

    ids: Mapping[int, int] | None = None
    unknown: Sequence[Category] = field(default_factory=tuple)

    def apply(self, detections: Sequence[Detection]) -> list[Detection]:
        """Detections with the data set's category ids."""
        if self.ids is None:
            return list(detections)
        return [
            {**one, "category_id": self.ids[one["category_id"]]} for one in detections if one["category_id"] in self.ids
        ]

    def missed(self, truth: GroundTruth) -> str | None:
        """How many objects the model cannot find for want of their category, in words; None if it knows them all."""
        objects = Counter(annotation.category_id for annotation in truth.annotations)
        lost = {one.name or str(one.id): objects[one.id] for one in self.unknown}
        if not lost:
            return None
        return (
            f"{len(lost)} of {len(truth.categories)} categories are unknown to the model; their {sum(lost.values()):,} "
            f"objects count as missed: {_list(lost)}"
        )


def match(categories: Sequence[Category], names: Sequence[str]) -> Labels:
    """Match a data set's categories to a model's labels.

    Where the data set names its categories and the model its labels, the names decide, without regard to case, ``_``
    and ``-``. Otherwise ids are labels.

    Args:
        categories: of the data set.
        names: of the model's labels, by label, background first; numbers where it knows no names; empty if not known.

    Raises:
        ConflictError: the data set names its categories, and the model knows none of them, or two have one name.

    Example:
        >>> match([Category(1, "cat"), Category(2, "dog")], ["__background__", "dog", "cat"]).ids
        {2: 1, 1: 2}
    """
    if not names:
        return Labels()
    labels = {plain_name(name): label for label, name in enumerate(names)}
    is_named = any(one.name for one in categories) and not all(name.isdecimal() for name in names)
    if not is_named:
        return Labels(unknown=[one for one in categories if not _is_label(one.id, names)])
    of_name = {one: plain_name(one.name) for one in categories if one.name}
    if len(set(of_name.values())) < len(of_name):
        [(twice, _)] = Counter(of_name.values()).most_common(1)
        raise ConflictError(f"two categories of the data set are named {twice!r}")
    known = {one: labels[name] for one, name in of_name.items() if name in labels and name not in _NOTHING}
    if not known:
        raise ConflictError(
            f"the model knows none of the data set's categories: these are {_list(one.name for one in of_name)}; "
            f"the model's are {_list(name for name in names if plain_name(name) not in _NOTHING)}"
        )
    unknown = [one for one in categories if one not in known and (one.name or not _is_label(one.id, names))]
    if all(one.id == label for one, label in known.items()) and not any(_is_label(one.id, names) for one in unknown):
        return Labels(unknown=unknown)
    ids = {label: one.id for one, label in known.items()}
    ids |= {one.id: one.id for one in categories if not one.name and one.id not in ids}
    return Labels(ids, unknown)


def _is_label(number: int, names: Sequence[str]) -> bool:
    return 0 < number < len(names) and plain_name(names[number]) not in _NOTHING


def _list(names: Iterable[str]) -> str:
    given = list(names)
    return ", ".join(given[:_SHOWN]) + (f" and {len(given) - _SHOWN} more" if len(given) > _SHOWN else "")


def upwards(category: int, parents: Mapping[int, Sequence[int]]) -> set[int]:
    """A class and all above it.

    Example:
        >>> sorted(upwards(3, {3: [2], 2: [1, 7]}))
        [1, 2, 3, 7]
    """
    found, left = {category}, [category]
    while left:
        above = [one for one in parents.get(left.pop(), ()) if one not in found]
        found.update(above)
        left += above
    return found
