"""The art styles, the drawings of each category, and the split into training and validation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Style:
    """One emoji set.

    Attributes:
        name: of the style.
        package: npm package that holds it.
        family: styles that show the same drawings in different finish belong to one family.
        names: what the set calls a drawing, where that is not its Unicode name.
        without: drawings of the set that show something else, or a whole scene.
    """

    name: str
    package: str
    family: str
    names: Mapping[str, str] = field(default_factory=dict)
    without: frozenset[str] = frozenset()


_HOURS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
_FXEMOJI = {
    "alarm-clock": "alarmclock",
    "american-football": "americanfootball",
    "articulated-lorry": "articulatedlorry",
    "birthday-cake": "birthdaycake",
    "blue-book": "bluebook",
    "bullet-train": "highspeedtrainbulletnose",
    "cat-face": "cat",
    "closed-book": "closedbook",
    "delivery-truck": "deliverytruck",
    "dog": "dogside",
    "dog-face": "dog",
    "green-apple": "greenapple",
    "green-book": "greenbook",
    "high-speed-train": "highspeedtrain",
    "horizontal-traffic-light": "horizontaltrafficlight",
    "light-rail": "lightrail",
    "locomotive": "steamlocomotive",
    "man-in-business-suit-levitating": "maninbusinesssuitlevitating",
    "mantelpiece-clock": "manltepiececlock",
    "notebook-with-decorative-cover": "notebookdecorativecover",
    "oncoming-automobile": "oncomingautomobile",
    "oncoming-taxi": "oncomingtaxi",
    "open-book": "openbook",
    "orange-book": "orangebook",
    "pizza": "sliceofpizza",
    "racing-car": "racecar",
    "railway-car": "railwaycar",
    "red-apple": "redapple",
    "rugby-football": "rugbyfootball",
    "soccer-ball": "soccerball",
    "tennis-ball": "tennisball",
    "umbrella": "umbrellawithraindrops",
    "vertical-traffic-light": "verticaltrafficlight",
    "woman-dancing": "dancer",
} | {f"{hour}-oclock": f"clock{number}oclock" for number, hour in enumerate(_HOURS, 1)}
_STREAMLINE = {
    "birthday-cake": "birthday-cake-1",
    "doughnut": "doughnut-1",
    "man-running": "man-running-1",
    "man-walking": "man-walking-1",
    "pizza": "pizza-1",
    "shortcake": "shortcake-1",
    "tennis-ball": "tennis-1",
    "woman-dancing": "woman-dancing-1",
    "woman-running": "woman-running-1",
    "woman-walking": "woman-walking-1",
}

STYLES = (
    Style("noto", "@iconify-json/noto", "noto"),
    Style("noto-v1", "@iconify-json/noto-v1", "noto-v1", without=frozenset({"basketball"})),
    Style(
        "fxemoji",
        "@iconify-json/fxemoji",
        "fxemoji",
        names=_FXEMOJI,
        without=frozenset({"cat", "sailboat", "speedboat", "ship"}),
    ),
    Style("fluent", "@iconify-json/fluent-emoji", "fluent"),
    Style("fluent-flat", "@iconify-json/fluent-emoji-flat", "fluent"),
    Style("fluent-3d", "@lobehub/fluent-emoji-3d", "fluent"),
    Style("emojitwo", "@iconify-json/emojione", "emojitwo", without=frozenset({"basketball", "dog"})),
    Style(
        "streamline", "@iconify-json/streamline-emojis", "streamline", names=_STREAMLINE, without=frozenset({"ship"})
    ),
    Style("twemoji", "@iconify-json/twemoji", "twemoji", names={"tennis-ball": "tennis"}),
)

HELD_OUT_STYLE = "twemoji"
"""Never trained on, in no validation scene: measures what the detector makes of a style it has not seen."""

CATEGORIES: Mapping[int, Mapping[str, str]] = {
    1: {
        "standing": "man-standing woman-standing person-standing",
        "walking": "man-walking woman-walking person-walking",
        "running": "man-running woman-running person-running",
        "dancing-man": "man-dancing",
        "dancing-woman": "woman-dancing",
        "kneeling": "man-kneeling woman-kneeling person-kneeling",
        "white-cane": "man-with-white-cane woman-with-white-cane",
        "cartwheeling": "man-cartwheeling woman-cartwheeling",
        "lotus-position": "man-in-lotus-position woman-in-lotus-position",
        "levitating": "person-in-suit-levitating man-in-business-suit-levitating",
    },
    3: {
        "car": "automobile taxi police-car",
        "car-front": "oncoming-automobile oncoming-taxi oncoming-police-car",
        "suv": "sport-utility-vehicle",
        "racing-car": "racing-car",
    },
    5: {"airplane": "airplane", "small-airplane": "small-airplane"},
    6: {"bus": "bus trolleybus", "bus-front": "oncoming-bus"},
    7: {
        "locomotive": "locomotive",
        "fast-train": "bullet-train high-speed-train",
        "train": "train",
        "tram": "tram",
        "light-rail": "light-rail",
        "monorail": "monorail",
        "railway-car": "railway-car tram-car",
    },
    8: {
        "delivery-truck": "delivery-truck",
        "lorry": "articulated-lorry",
        "fire-engine": "fire-engine",
        "pickup-truck": "pickup-truck",
    },
    9: {"sailboat": "sailboat", "motor-boat": "speedboat motor-boat", "ship": "ship passenger-ship ferry"},
    10: {"traffic-light": "vertical-traffic-light horizontal-traffic-light"},
    13: {"stop-sign": "stop-sign"},
    17: {
        "cat": "cat black-cat",
        "cat-face": "cat-face grinning-cat smiling-cat-with-heart-eyes cat-with-wry-smile kissing-cat pouting-cat",
    },
    18: {"dog": "dog", "dog-face": "dog-face", "poodle": "poodle", "guide-dog": "guide-dog service-dog"},
    22: {"elephant": "elephant"},
    23: {"bear": "bear polar-bear", "panda": "panda"},
    28: {"umbrella": "umbrella", "closed-umbrella": "closed-umbrella"},
    37: {
        "soccer-ball": "soccer-ball",
        "basketball": "basketball",
        "volleyball": "volleyball",
        "baseball": "baseball softball",
        "tennis-ball": "tennis-ball",
        "american-football": "american-football",
        "rugby-ball": "rugby-football",
    },
    52: {"banana": "banana"},
    53: {"apple": "red-apple green-apple"},
    59: {"pizza": "pizza"},
    60: {"doughnut": "doughnut"},
    61: {"birthday-cake": "birthday-cake", "shortcake": "shortcake", "cupcake": "cupcake"},
    72: {"television": "television", "desktop-computer": "desktop-computer"},
    84: {
        "closed-book": "closed-book green-book blue-book orange-book",
        "open-book": "open-book",
        "notebook": "notebook notebook-with-decorative-cover ledger",
    },
    85: {
        "clock-face": "one-oclock four-oclock seven-oclock ten-oclock twelve-oclock",
        "alarm-clock": "alarm-clock",
        "mantelpiece-clock": "mantelpiece-clock",
        "timer-clock": "timer-clock",
        "stopwatch": "stopwatch",
    },
}
"""COCO category id → artwork → Unicode names. One artwork gathers the names that share a drawing but for colours or
details (a red and a green apple), so that it goes to one side of the split as a whole."""

VALIDATION = frozenset(
    """
    noto/running noto-v1/walking fluent/standing
    noto-v1/car-front emojitwo/car fluent/suv
    noto-v1/airplane streamline/airplane
    fxemoji/bus noto/bus-front
    fxemoji/locomotive noto-v1/fast-train
    fluent/delivery-truck noto/fire-engine fxemoji/lorry
    noto-v1/sailboat noto/motor-boat fluent/ship
    fxemoji/traffic-light emojitwo/traffic-light
    noto-v1/stop-sign
    noto-v1/cat-face streamline/cat
    noto/dog-face fluent/poodle
    fxemoji/elephant
    noto-v1/bear emojitwo/panda
    noto-v1/umbrella
    noto-v1/soccer-ball fluent/basketball noto/volleyball fxemoji/baseball
    noto/banana
    emojitwo/apple
    fxemoji/pizza
    streamline/doughnut fxemoji/doughnut
    noto-v1/birthday-cake fxemoji/shortcake
    noto-v1/television
    fxemoji/closed-book noto/open-book
    noto-v1/clock-face fluent/alarm-clock
    """.split()  # noqa: SIM905
)
"""Artworks (``family/artwork``) that only validation scenes show."""
