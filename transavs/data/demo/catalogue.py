"""What the demo set may be composed of: classes, pictures, recordings, mute things, backgrounds.

A file is named by a short reference:

* ``tp:PATH`` - ``usr/share/tuxpaint/stamps/PATH`` of tuxpaint-stamps-default,
* ``gc:ACTIVITY/FILE`` - ``FILE`` inside the Qt resource ``ACTIVITY.rcc`` of gcompris-qt-data,
* ``bg:FILE`` - ``usr/share/tuxpaint/templates/FILE`` of tuxpaint-data.

Pictures are photographs cut out by an alpha channel; drawings (SVG) are left out. Some files of the
packages hold the same take under two names (badger = beaver, ram = mountain goat = goat, camel and
dromedary) or speech, or digital silence; only files that are fit for use are listed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class SoundingClass:
    """A kind of object that can be seen and heard.

    Attributes:
        name: class name, such as ``"songbird"``.
        category: folder name in the single-source subset, such as ``"songbird_singing"``.
        group: super-category: ``"animal"``, ``"music"``, ``"vehicle"`` or ``"device"``.
        pictures: references of its cut-outs.
        recordings: references of the recordings that train, val and test use.
        held_out: reference of the recording that only ``unseen`` uses; None = the class has no
            recording to spare and stays mute and invisible there.
    """

    name: str
    category: str
    group: str
    pictures: tuple[str, ...]
    recordings: tuple[str, ...]
    held_out: str | None = None


def _tuxpaint(folder: str, names: str, suffix: str) -> tuple[str, ...]:
    return tuple(f"tp:{folder}/{name}.{suffix}" for name in names.split())


def _single(
    name: str, category: str, group: str, folder: str, pictures: str, recordings: str = ""
) -> SoundingClass:
    """Class whose files all lie in one folder of the stamps."""
    return SoundingClass(
        name,
        category,
        group,
        _tuxpaint(folder, pictures, "png"),
        _tuxpaint(folder, recordings or pictures, "ogg"),
    )


_BOVINES = "animals/mammals/bovines"
_BIRDS = "animals/birds"
_MUSIC = "hobbies/music"

# The recording that is held out comes from the other package where there is one: another microphone
# and another animal, the hardest fair test of "has it learned the class or the file?".
DEFAULT_CLASSES: tuple[SoundingClass, ...] = (
    SoundingClass(
        "dog",
        "dog_barking",
        "animal",
        _tuxpaint("animals/mammals/dogs", "dog", "png"),
        ("tp:animals/mammals/dogs/dog.ogg", "gc:memory-sound/LRBark_1_LA_cut.ogg"),
        "gc:explore_farm_animals/dog.ogg",
    ),
    SoundingClass(
        "cow",
        "cow_mooing",
        "animal",
        _tuxpaint(_BOVINES, "cow cow_white bull", "png"),
        _tuxpaint(_BOVINES, "cow cow_white bull", "ogg"),
        "gc:explore_farm_animals/cow.ogg",
    ),
    SoundingClass(
        "horse",
        "horse_neighing",
        "animal",
        _tuxpaint("animals/mammals/equines", "horse", "png"),
        _tuxpaint("animals/mammals/equines", "horse", "ogg"),
        "gc:explore_farm_animals/horse.ogg",
    ),
    SoundingClass(
        "duck",
        "duck_quacking",
        "animal",
        _tuxpaint(_BIRDS, "duck drake", "png"),
        _tuxpaint(_BIRDS, "duck drake", "ogg"),
        "gc:explore_farm_animals/duck.ogg",
    ),
    SoundingClass(
        "songbird",
        "songbird_singing",
        "animal",
        _tuxpaint(_BIRDS, "blackbird magpie", "png"),
        _tuxpaint(_BIRDS, "blackbird", "ogg"),
        "tp:animals/birds/lark.ogg",
    ),
    _single("cymbal", "cymbal_crashing", "music", f"{_MUSIC}/percussion", "cymbal_crash"),
    SoundingClass(
        "acoustic guitar",
        "playing_acoustic_guitar",
        "music",
        _tuxpaint(f"{_MUSIC}/string", "guitar_classical", "png"),
        ("gc:instruments/guitar.ogg",),
    ),
    _single("violin", "playing_violin", "music", f"{_MUSIC}/string", "violin"),
)

_MAMMALS = "animals/mammals"

MORE_CLASSES: tuple[SoundingClass, ...] = (
    SoundingClass(
        "pig",
        "pig_grunting",
        "animal",
        _tuxpaint(_MAMMALS, "pig pig_golden2 wildboar", "png"),
        _tuxpaint(_MAMMALS, "pig pig_golden pig_golden2", "ogg"),
        "gc:explore_farm_animals/pig.ogg",
    ),
    SoundingClass(
        "sheep",
        "sheep_bleating",
        "animal",
        _tuxpaint(_BOVINES, "sheep", "png"),
        _tuxpaint(_BOVINES, "sheep sheep_lamb", "ogg"),
        "gc:explore_farm_animals/sheep.ogg",
    ),
    _single("goat", "goat_bleating", "animal", _BOVINES, "goat mountaingoat", "goat"),
    _single("bison", "bison_grunting", "animal", _BOVINES, "bison"),
    _single("donkey", "donkey_braying", "animal", "animals/mammals/equines", "donkey"),
    _single("zebra", "zebra_barking", "animal", "animals/mammals/equines", "zebra"),
    _single("goose", "goose_honking", "animal", _BIRDS, "gander"),
    _single("hen", "hen_clucking", "animal", _BIRDS, "hen chicken_profile", "hen"),
    _single("rooster", "rooster_crowing", "animal", _BIRDS, "rooster"),
    _single("turkey", "turkey_gobbling", "animal", _BIRDS, "turkey"),
    SoundingClass(
        "owl",
        "owl_hooting",
        "animal",
        _tuxpaint(_BIRDS, "owl", "png"),
        _tuxpaint(_BIRDS, "owl", "ogg"),
        "gc:explore_farm_animals/owl.ogg",
    ),
    _single("crow", "crow_cawing", "animal", _BIRDS, "crow"),
    _single("cuckoo", "cuckoo_calling", "animal", _BIRDS, "cuckoo"),
    _single("gull", "gull_calling", "animal", _BIRDS, "seagull silver-gull", "seagull"),
    _single("toucan", "toucan_calling", "animal", _BIRDS, "tucan"),
    _single("vulture", "vulture_calling", "animal", _BIRDS, "vulture"),
    SoundingClass(
        "frog",
        "frog_croaking",
        "animal",
        _tuxpaint("animals/amphibians", "frog", "png"),
        _tuxpaint("animals/amphibians", "frog", "ogg"),
        "gc:memory-sound/LRFrogsInPondDuringStormLACut.ogg",
    ),
    _single(
        "bee",
        "bee_buzzing",
        "animal",
        "animals/insects",
        "hornet hoverfly",
        "bee hornet",
    ),
    _single("chimpanzee", "chimpanzee_screaming", "animal", f"{_MAMMALS}/apes", "chimp"),
    _single("gorilla", "gorilla_grunting", "animal", f"{_MAMMALS}/apes", "gorilla"),
    _single("lion", "lion_roaring", "animal", f"{_MAMMALS}/cats", "lion"),
    _single("tiger", "tiger_roaring", "animal", f"{_MAMMALS}/cats", "tiger"),
    _single("bear", "bear_growling", "animal", f"{_MAMMALS}/bears", "bear european-bear", "bear"),
    _single(
        "deer",
        "deer_belling",
        "animal",
        f"{_MAMMALS}/deer",
        "deer doe wapiti caribou",
        "deer doe caribou",
    ),
    _single(
        "camel", "camel_groaning", "animal", f"{_MAMMALS}/camel", "camel dromedary", "dromedary"
    ),
    _single("elephant", "elephant_trumpeting", "animal", _MAMMALS, "elephant"),
    _single("dolphin", "dolphin_clicking", "animal", f"{_MAMMALS}/aquatic", "dolphin"),
    _single("whale", "whale_singing", "animal", f"{_MAMMALS}/aquatic", "whale"),
    _single("sea lion", "sea_lion_barking", "animal", f"{_MAMMALS}/aquatic", "sea_lion"),
    _single("drum kit", "playing_drum_kit", "music", f"{_MUSIC}/percussion", "drumkit"),
    _single("floor tom", "playing_floor_tom", "music", f"{_MUSIC}/percussion", "drum_tomtom_floor"),
    _single("cello", "playing_cello", "music", f"{_MUSIC}/string", "cello"),
    SoundingClass(
        "electric guitar",
        "playing_electric_guitar",
        "music",
        _tuxpaint(f"{_MUSIC}/string", "guitar_electric guitar2", "png"),
        ("gc:instruments/electric_guitar.ogg",),
    ),
    SoundingClass(
        "trumpet",
        "playing_trumpet",
        "music",
        _tuxpaint(f"{_MUSIC}/brass", "trumpet", "png"),
        ("gc:instruments/trumpet.ogg",),
    ),
    _single("fire engine", "fire_engine_siren", "vehicle", "vehicles/emergency", "firetruck"),
    SoundingClass(
        "car",
        "car_engine",
        "vehicle",
        _tuxpaint("vehicles/auto", "beetle sedan sportscar2", "png"),
        ("gc:memory-sound/LRStartAndStopCarEngine1LACut.ogg",),
    ),
)

CLASS_SETS: dict[str, tuple[SoundingClass, ...]] = {
    "default": DEFAULT_CLASSES,
    "all": DEFAULT_CLASSES + MORE_CLASSES,
}

SILENT_PICTURES: tuple[str, ...] = (
    *_tuxpaint("food/fruit", "Cherry_Stella avocado cherimoya kiwi orange_seville", "png"),
    *_tuxpaint("food", "pizza vegetables/broccoli vegetables/corn spices/ginger", "png"),
    *_tuxpaint("sports", "basketball soccer football tennis_racket trophy_cup", "png"),
    *_tuxpaint("plants", "lavender mushrooms/cep-1 mushrooms/cep-2 trees/holm_oak", "png"),
    *_tuxpaint("plants", "trees/liberia-palm trees/tree336 trees/rambutan", "png"),
    *_tuxpaint("plants/flowers", "anemone_red daffodil rose marigold chemparathi", "png"),
    *_tuxpaint("household", "Lightbulb home_compost_bin wheelie_bin garbagecan", "png"),
    *_tuxpaint("household/dishes", "mug pitcher_small", "png"),
    *_tuxpaint("household/tools", "cementmixer toolbox wrench_plumbers", "png"),
    *_tuxpaint("vehicles/ship", "chineseJunk walnutBoat", "png"),
)
"""Things that never make a sound anywhere in the set."""

_TEMPLATES = (
    "burnt_bark cliff corn_maze jellyfish lighthouse mossy_bark mossy_log mudstone ocean_splash "
    "ocean_waves redwoods_above rocks spiders_web sun_behind_clouds sun_behind_leaves trees_above "
    "trees_at_dusk wool_mill_machine"
)
_MONUMENTS = (
    "bentPyramid greatPyramidOfGiza meidumPyramid redPyramid arlesAmphitheater chateaudeChambord "
    "chateaudeChenonceau citedeCarcassonne eiffelTower montStMichel palaisdesPapes pontduGard "
    "reimsCathedral rocamadour aulaPalatina berlinCathedral brandenburgGate neuschwansteinCastle "
    "schwerinPalace trierImperialBaths wormsCathedral ajantaCave charminar gatewayofIndia "
    "goldenTemple greatStupa hawaMahal konarkSunTemple mysorePalace qutubMinar rangGhar "
    "victoriaMemorial cabrillo canyondeChelly castillodeSanMarcos castleClinton fortSumter "
    "georgeWashingtonBirthplace lincolnMemorial mountRushmore navajo statueofLiberty chichenItza "
    "christTheRedeemer colosseum greatWallofChina machuPicchu petra tajMahal"
)
BACKGROUNDS: tuple[str, ...] = (
    *(f"bg:{name}.jpg" for name in _TEMPLATES.split()),
    *(f"gc:explore_monuments/{name}.webp" for name in _MONUMENTS.split()),
)
"""Photographs of places. ``sheep.jpg`` is left out because it shows an animal that can sound."""

ATTRIBUTIONS: dict[str, str] = {
    "gc:explore_monuments/chichenItza.webp": "Daniel Schwen, CC-BY-SA-4.0",
    "gc:explore_monuments/christTheRedeemer.webp": "Chensiyuan, CC-BY-SA-4.0",
    "gc:explore_monuments/tajMahal.webp": "Yann, CC-BY-SA-4.0",
}
"""Authors of the photographs whose licence asks for their names."""

HELD_OUT_EVERY = 5


def is_held_out_background(position: int) -> bool:
    """True for the backgrounds that only ``unseen`` uses: every fifth one of the list."""
    return position % HELD_OUT_EVERY == HELD_OUT_EVERY - 1


def classes_named(selection: str) -> tuple[SoundingClass, ...]:
    """Classes of a named set (``"default"``, ``"all"``) or of a comma-separated list of names.

    Raises:
        ValueError: a name is unknown or given twice, or fewer than two classes are named.
    """
    if selection in CLASS_SETS:
        return CLASS_SETS[selection]
    known = {each.name: each for each in CLASS_SETS["all"]}
    names = [name.strip() for name in selection.split(",")]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(
            f"unknown demo classes {unknown}: expected {' or '.join(CLASS_SETS)}, "
            f"or names out of {sorted(known)}"
        )
    if len(names) < 2 or len(set(names)) != len(names):
        raise ValueError(f"expected at least two different demo classes, got {names}")
    return tuple(known[name] for name in names)


def file_references(classes: Sequence[SoundingClass]) -> list[str]:
    """Every file that a set composed of ``classes`` may use, sorted."""
    references = set(SILENT_PICTURES) | set(BACKGROUNDS)
    for each in classes:
        references.update(each.pictures, each.recordings)
        if each.held_out is not None:
            references.add(each.held_out)
    return sorted(references)
