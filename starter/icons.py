"""Which drawings of icon sets are used: for training only, so that it meets more ways to draw a category."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class IconSet:
    """One icon set.

    Attributes:
        name: of the style.
        package: npm package that holds it.
        coloured: whether the drawings have colours; others are painted.
        drawings: COCO category id → the set's names of drawings.
    """

    name: str
    package: str
    coloured: bool
    drawings: Mapping[int, str]


ICON_SETS = (
    IconSet(
        "icon-park",
        "@iconify-json/icon-park",
        True,
        {
            3: "car taxi",
            5: "airplane",
            6: "bus bus-one bus-two tour-bus",
            7: "train subway",
            8: "truck",
            9: "ship sailboat sailboat-one cruise",
            17: "cat",
            18: "dog",
            22: "elephant",
            23: "bear panda",
            28: "umbrella umbrella-one umbrella-two",
            37: "baseball basketball soccer volleyball",
            52: "banana",
            60: "doughnut",
            61: "birthday-cake cake cake-one cake-two cake-three cake-four cake-five",
            72: "tv monitor",
            84: "book book-one book-open notebook notebook-one",
            85: "alarm-clock big-clock stopwatch",
        },
    ),
    IconSet(
        "streamline-color",
        "@iconify-json/streamline-color",
        True,
        {
            3: "car-taxi-1 car-taxi-1-flat",
            5: "airplane-flat airport-plane-flat airplane",
            6: "bus bus-flat school-bus-side school-bus-side-flat",
            7: "high-speed-train-front high-speed-train-front-flat",
            8: "shipping-truck shipping-truck-flat",
            9: "sail-ship sail-ship-flat",
            17: "cat-1 cat-1-flat",
            28: "open-umbrella open-umbrella-flat",
            37: "ball ball-flat",
            60: "donut donut-flat",
            61: "cake-slice cake-slice-flat",
            84: "dictionary-language-book-flat manual-book open-book open-book-flat",
            85: "alarm-clock alarm-clock-flat circle-clock",
        },
    ),
    IconSet(
        "streamline-flex-color",
        "@iconify-json/streamline-flex-color",
        True,
        {
            3: "car-taxi-1 car-taxi-1-flat",
            5: "airport-plane airport-plane-flat",
            6: "school-bus-side school-bus-side-flat",
            7: "high-speed-train-front high-speed-train-front-flat",
            17: "cat-2 cat-2-flat",
            18: "dog-1 dog-1-flat",
            28: "open-umbrella open-umbrella-flat",
            37: "ball ball-flat",
            61: "cake-slice cake-slice-flat",
            84: "dictionary-language-book dictionary-language-book-flat",
        },
    ),
    IconSet(
        "streamline-plump-color",
        "@iconify-json/streamline-plump-color",
        True,
        {
            5: "airplane-enabled airplane-enabled-flat",
            6: "bus bus-flat",
            7: "high-speed-train-side high-speed-train-side-flat",
            8: "firefighter-truck firefighter-truck-flat",
            9: "sail-ship sail-ship-flat",
            10: "traffic-light traffic-light-flat",
            18: "dog-1 dog-1-flat",
            28: "open-umbrella open-umbrella-flat",
            37: "ball ball-flat",
            61: "cake-slice cake-slice-flat",
            72: "screen-1 screen-1-flat",
            84: "book-1 book-1-flat",
            85: "circle-clock circle-clock-flat",
        },
    ),
    IconSet(
        "streamline-ultimate-color",
        "@iconify-json/streamline-ultimate-color",
        True,
        {
            3: "car-4 car-retro taxi",
            6: "bus-1",
            7: "railroad-metro",
            8: "delivery-truck-3 truck-2 truck-empty-1",
            9: "shipment-cargo-boat",
            13: "stop-sign road-sign-stop",
            22: "circus-elephant",
            28: "rain-umbrella-1",
            37: "volleyball-ball",
            52: "fruit-banana",
            72: "modern-tv-4k vintage-tv-4 modern-tv-curvy-edge",
            84: "book-close-bookmark-1 book-open-bookmark",
            85: "time-clock-circle",
        },
    ),
    IconSet(
        "mdi",
        "@iconify-json/mdi",
        False,
        {
            1: "human human-male human-female human-child human-greeting walk run",
            3: "car car-side car-hatchback car-estate car-sports car-convertible taxi",
            5: "airplane",
            6: "bus bus-side bus-double-decker bus-school",
            7: "train train-variant tram subway-variant tram-side",
            8: "truck truck-trailer fire-truck truck-flatbed",
            9: "ferry sail-boat",
            10: "traffic-light",
            17: "cat",
            18: "dog dog-side",
            22: "elephant",
            23: "panda",
            28: "umbrella",
            37: "baseball basketball volleyball soccer tennis-ball",
            53: "food-apple",
            59: "pizza",
            61: "cake cake-variant cake-layered cupcake",
            72: "television television-classic",
            84: "book book-variant book-open",
            85: "clock alarm",
        },
    ),
    IconSet(
        "phosphor",
        "@iconify-json/ph",
        False,
        {
            1: "person-fill person-arms-spread-fill person-simple-run-fill person-simple-walk-fill",
            3: "car-fill car-duotone car-profile-fill car-profile-duotone jeep-fill taxi-fill",
            5: "airplane-fill airplane-duotone airplane-tilt-fill",
            6: "bus-fill bus-duotone",
            7: "train-fill train-duotone train-regional-fill train-simple-fill tram-fill subway-fill",
            8: "truck-fill truck-duotone truck-trailer-fill fire-truck-fill",
            9: "boat-fill boat-duotone sailboat-fill sailboat-duotone",
            10: "traffic-signal-fill traffic-signal-duotone",
            17: "cat-fill cat-duotone",
            18: "dog-fill dog-duotone",
            28: "umbrella-fill umbrella-duotone umbrella-simple-fill",
            37: "baseball-fill basketball-fill soccer-ball-fill volleyball-fill tennis-ball-fill",
            59: "pizza-fill pizza-duotone",
            61: "cake-fill cake-duotone",
            72: "television-fill television-duotone television-simple-fill monitor-fill",
            84: "book-fill book-duotone book-open-fill book-open-duotone",
            85: "alarm-fill alarm-duotone clock-fill clock-duotone",
        },
    ),
    IconSet(
        "mingcute",
        "@iconify-json/mingcute",
        False,
        {
            1: "walk-fill run-fill",
            3: "car-fill car-2-fill car-3-fill jeep-fill",
            5: "airplane-fill",
            6: "bus-fill bus-2-fill",
            7: "train-fill train-2-fill train-3-fill train-4-fill",
            8: "truck-fill",
            9: "ship-fill sailboat-fill",
            10: "traffic-lights-fill",
            17: "cat-fill",
            18: "dog-fill",
            23: "bear-fill",
            28: "umbrella-fill umbrella-2-fill",
            37: "baseball-fill basketball-fill football-fill volleyball-fill",
            53: "apple-fruit-fill",
            59: "pizza-fill",
            60: "donut-fill",
            61: "cake-fill cupcake-fill",
            72: "tv-1-fill tv-2-fill",
            84: "book-fill book-2-fill book-3-fill book-5-fill notebook-fill",
            85: "clock-fill",
        },
    ),
    IconSet(
        "game-icons",
        "@iconify-json/game-icons",
        False,
        {
            1: "person walk",
            3: "city-car jeep police-car race-car",
            5: "airplane commercial-airplane biplane",
            6: "bus",
            7: "steam-locomotive subway-train",
            8: "truck tow-truck",
            9: "sailboat cargo-ship fishing-boat speed-boat small-fishing-sailboat",
            10: "traffic-lights-green traffic-lights-orange traffic-lights-red",
            13: "stop-sign",
            17: "cat",
            18: "sitting-dog",
            22: "elephant elephant-head",
            23: "bear-face bear-head panda polar-bear",
            28: "umbrella",
            37: "basketball-ball soccer-ball volleyball-ball tennis-ball",
            52: "banana banana-peeled banana-bunch",
            53: "shiny-apple",
            59: "pizza-slice full-pizza",
            60: "donut",
            61: "cake-slice cupcake stairs-cake",
            72: "tv",
            84: "black-book white-book open-book book-cover",
            85: "alarm-clock watch pocket-watch",
        },
    ),
)
"""Their artworks are all of the training part: no validation scene shows one."""

PAINTS = (
    ((38, 50, 56), (236, 239, 241)),
    ((191, 54, 12), (255, 224, 178)),
    ((255, 255, 255), (21, 101, 192)),
    ((27, 94, 32), (200, 230, 201)),
    ((255, 235, 59), (97, 97, 97)),
    ((74, 20, 140), (248, 187, 208)),
    ((250, 250, 250), (198, 40, 40)),
    ((62, 39, 35), (255, 183, 77)),
    ((13, 71, 161), (179, 229, 252)),
    ((33, 33, 33), (255, 213, 79)),
)
"""Ink and paper (RGB) of the sets without colours."""
