"""Names of AVSBench's classes, and the super-categories that off-screen sounds are chosen by."""

from __future__ import annotations

# The raw category strings of S4, which are its folder names, in the official order.
S4_CATEGORIES = (
    "baby_laughter",
    "female_singing",
    "male_speech",
    "dog_barking",
    "cat_meowing",
    "lions_roaring",
    "horse_clip-clop",
    "coyote_howling",
    "mynah_bird_singing",
    "playing_acoustic_guitar",
    "playing_tabla",
    "playing_violin",
    "playing_piano",
    "playing_ukulele",
    "playing_glockenspiel",
    "helicopter",
    "race_car",
    "driving_buses",
    "ambulance_siren",
    "typing_on_computer_keyboard",
    "chainsawing_trees",
    "cap_gun_shooting",
    "lawn_mowing",
)

# Super-categories of S4, and those whose sounds are distant from each (AVSBench-Robust, arXiv
# 2502.00358: the same kind and the weak contrasts music - human, animal - human and device - music
# or vehicle are left out).
S4_GROUPS = {
    name: group
    for group, names in {
        "human": S4_CATEGORIES[0:3],
        "animal": S4_CATEGORIES[3:9],
        "music": S4_CATEGORIES[9:15],
        "vehicle": S4_CATEGORIES[15:19],
        "device": S4_CATEGORIES[19:23],
    }.items()
    for name in names
}
DISTANT_GROUPS = {
    "human": ("animal", "vehicle", "device"),
    "animal": ("music", "vehicle", "device"),
    "music": ("animal", "vehicle", "device"),
    "vehicle": ("human", "animal", "music"),
    "device": ("human", "animal"),
}

# The classes of AVSS in the order of their pixel values: background 0, then alphabetical. A name
# may hold "-" but never "_".
AVSS_CLASSES = tuple(
    """
    background accordion airplane axe baby bassoon bell bird boat boy bus car cat cello clarinet
    clipper clock dog donkey drum duck elephant emergency-car erhu flute frying-food girl goose
    guitar gun guzheng hair-dryer handpan harmonica harp helicopter hen horse keyboard leopard
    lion man marimba missile-rocket motorcycle mower parrot piano pig pipa saw saxophone sheep
    sitar sorna squirrel tabla tank tiger tractor train trombone truck trumpet tuba ukulele utv
    vacuum-cleaner violin wolf woman
    """.split()
)
AVSS_GROUPS = {
    name: group
    for group, names in {
        "human": "baby boy girl man woman",
        "animal": "bird cat dog donkey duck elephant goose hen horse leopard lion parrot pig sheep "
        "squirrel tiger wolf",
        "music": "accordion bassoon cello clarinet drum erhu flute guitar guzheng handpan "
        "harmonica harp marimba piano pipa saxophone sitar sorna tabla trombone trumpet tuba "
        "ukulele violin",
        "vehicle": "airplane boat bus car emergency-car helicopter motorcycle tank tractor train "
        "truck utv",
        # "keyboard" is what S4 calls typing_on_computer_keyboard.
        "device": "axe bell clipper clock frying-food gun hair-dryer keyboard missile-rocket mower "
        "saw vacuum-cleaner",
    }.items()
    for name in names.split()
}
