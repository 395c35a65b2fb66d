"""The configuration: every shipped file builds, every key is read, every mistake is told."""

import ast
import inspect
import re
import textwrap
from pathlib import Path

import pytest
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog
from detectron2.engine import DefaultTrainer
from detectron2.modeling import backbone, build_model
from detectron2.solver import build_lr_scheduler as build_lr_scheduler_of_detectron2
from torch import nn

from transavs.config import add_transavs_config, setup_cfg
from transavs.config_checks import _UNREAD, unread_keys
from transavs.engine import build_lr_scheduler, build_optimizer
from transavs.modeling import TPAVI, TransAVS
from transavs.utils.package_files import shipped_configs

PACKAGE = Path(__file__).resolve().parents[1] / "transavs"
CONFIGS = shipped_configs()


def leaves(node: CfgNode, prefix: str = "") -> set[str]:
    """Dotted names of all values below a node."""
    found = set()
    for key, value in node.items():
        name = f"{prefix}{key}"
        found |= leaves(value, f"{name}.") if isinstance(value, CfgNode) else {name}
    return found


def own_keys() -> set[str]:
    cfg = get_cfg()
    before = leaves(cfg)
    add_transavs_config(cfg)
    return leaves(cfg) - before


def test_shipped_configs_are_found():
    expected = {"s4_R101.yaml", "ms3_swin_base.yaml", "avss_R101.yaml", "demo/demo_ms3.yaml"}
    assert expected <= set(CONFIGS)
    assert len([name for name in CONFIGS if name.startswith("ablation/")]) == 8


# VGGish has 72 million parameters that no config changes.
SMALL_AUDIO = ("MODEL.DEVICE", "cpu", "MODEL.AUDIO.NAME", "SmallVGGish", "MODEL.AUDIO.WEIGHTS", "")
_BUILT: dict[str, TransAVS | TPAVI] = {}


def build(name: str) -> TransAVS | TPAVI:
    """Builds the network of a config at its full size; those that train it alike share one."""
    cfg = setup_cfg(name, [*SMALL_AUDIO, "MODEL.WEIGHTS", ""])
    if cfg.MODEL.TIMM.WEIGHTS == "timm":  # timm would download them
        cfg = setup_cfg(name, [*SMALL_AUDIO, "MODEL.WEIGHTS", "", "MODEL.TIMM.WEIGHTS", ""])
    node = cfg.MODEL.clone()
    node.defrost()
    node.TRANSAVS.AQDL_THRESHOLD = node.TRANSAVS.AQML_THRESHOLD = []
    node.TPAVI.AVM_WEIGHT = 0.0
    key = node.dump()
    if key not in _BUILT:
        _BUILT[key] = build_model(cfg)
    return _BUILT[key]


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_loads_freezes_and_builds(name):
    cfg = setup_cfg(name)
    assert cfg.is_frozen()
    with pytest.raises(AttributeError):
        cfg.SEED = 3
    if Path(name).name.startswith("Base-"):
        return
    for split in (cfg.DATASETS.TRAIN, cfg.DATASETS.VAL, cfg.DATASETS.TEST):
        assert split and all(dataset in DatasetCatalog for dataset in split)
    # The folder of the results says which config they are of.
    assert Path(cfg.OUTPUT_DIR).name in (Path(name).stem, Path(name).stem.removeprefix("demo_"))
    model = build(name)
    if cfg.MODEL.META_ARCHITECTURE == "TPAVI":
        assert isinstance(model, TPAVI)
        assert list(model.decoder.blocks) == list(cfg.MODEL.TPAVI.STAGES)
        return
    assert model.query_generator.time_mixture.shape[0] == cfg.MODEL.TRANSAVS.NUM_QUERIES
    assert len(model.query_decoder.cross_attention) == cfg.MODEL.TRANSAVS.DECODER_LAYERS


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in CONFIGS
        if not any(part in name for part in ("demo", "Base", "tpavi", "mask2former", "plus"))
    ],
)
def test_configs_hold_the_papers_recipe(name):
    """TransAVS (arXiv 2305.07223), section 3.2 and Table 3."""
    cfg = setup_cfg(name)
    transavs = cfg.MODEL.TRANSAVS
    assert (cfg.SOLVER.BASE_LR, cfg.SOLVER.BACKBONE_MULTIPLIER) == (1e-4, 0.1)
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.IMS_PER_BATCH) == (90000, 8)
    weights = (
        transavs.AQDL_WEIGHT,
        transavs.AQML_WEIGHT,
        transavs.CLASS_WEIGHT,
        transavs.DICE_WEIGHT,
    )
    assert weights == (2.0, 2.0, 5.0, 5.0)
    assert transavs.MASK_BCE_WEIGHT == 0 and not transavs.MASKED_ATTENTION
    assert transavs.AUDIO_CONTEXT == "clip"
    # AVSS, which the paper does not have, tells 70 classes.
    semantic = name.startswith("avss")
    expected_targets = ("classes", 70, 10) if semantic else ("union", 1, 5)
    found = (transavs.TARGETS, transavs.NUM_CLASSES, cfg.INPUT.CLIP_SECONDS)
    assert found == expected_targets
    assert cfg.SOLVER.AMP.ENABLED == semantic
    assert transavs.INFERENCE.RULE == ("semantic_sum" if semantic else "argmax")
    assert cfg.MODEL.AUDIO.NAME == "VGGish" and cfg.MODEL.AUDIO.FREEZE
    variant = name.removeprefix("ablation/").removesuffix(".yaml").split("_", 2)[2:]
    expected = {
        "N100": (100, 0),
        "N500": (500, 0),
        "fixed_delta1": (300, 1),
        "fixed_delta2": (300, 2),
    }
    queries, fixed = expected.get(variant[0] if variant else "", (300, 0))
    assert transavs.NUM_QUERIES == queries
    assert transavs.AQDL_THRESHOLD == ([0.6, 0.6] if fixed == 1 else [0.55, 0.65])
    assert transavs.AQML_THRESHOLD == ([0.6, 0.6] if fixed == 2 else [0.55, 0.65])
    subset = name.removeprefix("ablation/").split("_")[0]
    assert cfg.DATASETS.TRAIN == (f"avsbench_{subset}_train",)
    assert cfg.DATASETS.VAL == (f"avsbench_{subset}_val",)
    assert cfg.DATASETS.TEST == (f"avsbench_{subset}_test",)


@pytest.mark.parametrize("backbone", ["R50", "pvt_v2_b5"])
@pytest.mark.parametrize(("subset", "clips", "epochs"), [("s4", 3452, 15), ("ms3", 296, 30)])
def test_baseline_configs_hold_the_official_recipe(subset, clips, epochs, backbone):
    """Training of AVSBench's baseline: Adam, constant rate, whole epochs of 4 clips, no changes."""
    cfg = setup_cfg(f"tpavi/{subset}_{backbone}.yaml")
    solver = cfg.SOLVER
    assert (solver.BASE_LR, solver.BACKBONE_MULTIPLIER, solver.IMS_PER_BATCH) == (1e-4, 1, 4)
    assert solver.MAX_ITER == epochs * clips // 4 == epochs * cfg.TEST.EVAL_PERIOD
    assert not (solver.WEIGHT_DECAY or solver.WEIGHT_DECAY_NORM or solver.WEIGHT_DECAY_EMBED)
    assert not solver.CLIP_GRADIENTS.ENABLED and not solver.WARMUP_ITERS
    short = setup_cfg(f"tpavi/{subset}_{backbone}.yaml", ["SOLVER.MAX_ITER", 3])
    optimizer = build_optimizer(short, nn.Linear(1, 1))
    schedule = build_lr_scheduler(short, optimizer)
    for _ in range(4):
        assert [group["lr"] for group in optimizer.param_groups] == [1e-4]
        optimizer.step()
        schedule.step()
    assert tuple(cfg.INPUT.MIN_SIZE_TRAIN) == (224,) and cfg.INPUT.MIN_SIZE_TEST == 224
    assert cfg.INPUT.COLOR_JITTER == 0 and cfg.INPUT.RANDOM_FLIP == "none"
    assert not cfg.INPUT.CROP.ENABLED and cfg.INPUT.FORMAT == "RGB"
    assert cfg.MODEL.AUDIO.NAME == "VGGish" and cfg.MODEL.AUDIO.FREEZE
    assert not cfg.MODEL.BACKBONE.FREEZE and cfg.MODEL.BACKBONE.FREEZE_AT == 0
    if backbone == "R50":
        assert cfg.MODEL.RESNETS.NORM == "BN"
    node = cfg.MODEL.TPAVI
    assert node.CHANNELS == 256 and tuple(node.STAGES) == ("res2", "res3", "res4", "res5")
    assert node.AVM_WEIGHT == (0.5 if subset == "ms3" else 0) and not node.AVM_CUT_MASK
    assert cfg.MODEL.TRANSAVS.TARGETS == "union"
    assert cfg.DATASETS.TRAIN == (f"avsbench_{subset}_train",)
    assert cfg.DATASETS.VAL == (f"avsbench_{subset}_val",)
    assert cfg.DATASETS.TEST == (f"avsbench_{subset}_test",)


@pytest.mark.parametrize("subset", ["s4", "ms3"])
def test_demo_of_the_baseline_compares(subset):
    """With TransAVS's demo it shares everything that is not the network behind the backbone."""
    baseline, own = (setup_cfg(f"demo/demo_{subset}{end}.yaml") for end in ("_tpavi", ""))
    assert baseline.MODEL.TRANSAVS.TARGETS == "union"
    for key in ("BACKBONE", "TIMM", "AUDIO", "PIXEL_MEAN", "PIXEL_STD"):
        assert baseline.MODEL[key] == own.MODEL[key]
    for node in ("INPUT", "DATASETS", "TEST", "SEED"):
        assert baseline[node] == own[node]
    for key in ("MAX_ITER", "IMS_PER_BATCH"):
        assert baseline.SOLVER[key] == own.SOLVER[key]
    # As many parameters learn, to a hundredth.
    learning = [
        sum(
            p.numel()
            for p in build(f"demo/demo_{subset}{end}.yaml").parameters()
            if p.requires_grad
        )
        for end in ("_tpavi", "")
    ]
    assert learning[0] == pytest.approx(learning[1], rel=0.01)


def keys_read_in(source: str) -> set[str]:
    """Dotted config keys that a module reads, through names such as ``node = cfg.MODEL.AUDIO``."""
    found: set[str] = set()

    def dotted(node: ast.expr, names: dict[str, str]) -> str | None:
        if isinstance(node, ast.Name):
            return "" if node.id == "cfg" else names.get(node.id)
        if isinstance(node, ast.Attribute):
            inner = dotted(node.value, names)
            if inner is None:
                return "" if node.attr == "cfg" else None
            return f"{inner}.{node.attr}".lstrip(".")
        return None

    def visit(scope: ast.AST, names: dict[str, str]) -> None:
        for child in ast.iter_child_nodes(scope):
            if isinstance(child, ast.Assign):
                for target in child.targets:
                    pairs = [(target, child.value)]
                    if isinstance(target, ast.Tuple) and isinstance(child.value, ast.Tuple):
                        pairs = list(zip(target.elts, child.value.elts, strict=True))
                    for name, value in pairs:
                        key = dotted(value, names)
                        if isinstance(name, ast.Name) and key is not None:
                            names[name.id] = key
            if isinstance(child, ast.Attribute) and isinstance(child.ctx, ast.Load):
                key = dotted(child, names)
                if key:
                    found.add(key)
            # A function sees the names around it, but does not change them.
            inner = isinstance(child, ast.FunctionDef | ast.ClassDef | ast.Lambda)
            visit(child, dict(names) if inner else names)

    visit(ast.parse(source), {})
    return found


def test_every_own_key_is_read():
    read = set()
    for file in PACKAGE.rglob("*.py"):
        # Declaring or checking a key is not reading it.
        if file.name != "config.py":
            read |= keys_read_in(file.read_text(encoding="utf-8"))
    unread = {key for key in own_keys() if key not in read}
    assert not unread, f"keys that nothing reads: {sorted(unread)}"


def test_keys_that_nothing_reads_are_known():
    """The list holds just the keys that neither we read, nor what we call of detectron2."""
    every = get_cfg()
    called = [DefaultTrainer.auto_scale_workers, build_lr_scheduler_of_detectron2]
    sources = [textwrap.dedent(inspect.getsource(function)) for function in called]
    for file in [*PACKAGE.rglob("*.py"), *Path(backbone.__file__).parent.glob("*.py")]:
        if file.name != "config.py":
            sources.append(file.read_text(encoding="utf-8"))
    # By name: engine.default_setup, and the reader of files.
    read = {"CUDNN_BENCHMARK", "VERSION"}.union(*map(keys_read_in, sources))
    unread = leaves(every) - read
    assert {key for key in leaves(every) if key.startswith(_UNREAD)} == unread
    assert all(any(key.startswith(start) for key in unread) for start in _UNREAD)


@pytest.mark.parametrize("name", CONFIGS)
def test_shipped_configs_set_no_key_that_nothing_reads(name):
    assert unread_keys(setup_cfg(name)) == {}
    options = ["MODEL.FPN.NORM", "GN", "TEST.AUG.FLIP", False, "SOLVER.WEIGHT_DECAY_BIAS", 0.0]
    assert unread_keys(setup_cfg(name, options)) == dict(zip(*[iter(options)] * 2, strict=True))


def test_key_reader_follows_aliases():
    source = """
def from_config(cls, cfg):
    node, other = cfg.MODEL.TRANSAVS, cfg.MODEL.AUDIO
    inner = node.INFERENCE
    return [node.NUM_QUERIES, inner.RULE, other.NAME, cls.cfg.SEED, self.cfg.TEST.X]
"""
    read = keys_read_in(source)
    assert {
        "MODEL.TRANSAVS.NUM_QUERIES", "MODEL.TRANSAVS.INFERENCE.RULE", "MODEL.AUDIO.NAME", "SEED",
        "TEST.X",
    } <= read  # fmt: skip
    assert "MODEL.AUDIO.WEIGHTS" not in read


def test_no_module_reads_a_key_that_does_not_exist():
    cfg = get_cfg()
    add_transavs_config(cfg)
    every = leaves(cfg)
    nodes = {key.rsplit(".", depth)[0] for key in every for depth in range(1, key.count(".") + 1)}
    for file in PACKAGE.rglob("*.py"):
        for key in keys_read_in(file.read_text(encoding="utf-8")):
            if re.search("[a-z]", key):
                continue  # a method of the node, such as cfg.clone
            assert key in every | nodes, f"{file} reads {key}, which is no key"


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_overrides_win_over_the_file():
    cfg = setup_cfg("s4_R101.yaml", ["MODEL.TRANSAVS.NUM_QUERIES", 7, "MODEL.WEIGHTS", ""])
    assert cfg.MODEL.TRANSAVS.NUM_QUERIES == 7 and cfg.MODEL.WEIGHTS == ""
    assert setup_cfg("configs/s4_R101.yaml").MODEL.TRANSAVS.NUM_QUERIES == 300


def test_paths_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(
        tmp_path / "mine.yaml", "OUTPUT_DIR: ~/out\nMODEL: {BACKBONE: {CACHE: '~'}}\nVERSION: 2\n"
    )
    options = ["MODEL.BACKBONE.FREEZE", True, "MODEL.WEIGHTS", "~/a.pkl?matching_heuristics=True"]
    cfg = setup_cfg("~/mine.yaml", options)
    assert (cfg.OUTPUT_DIR, cfg.MODEL.BACKBONE.CACHE) == (f"{tmp_path}/out", str(tmp_path))
    assert cfg.MODEL.WEIGHTS == f"{tmp_path}/a.pkl?matching_heuristics=True"


def test_conditions_of_robustness_are_those_of_the_data():
    from transavs import config_checks
    from transavs.data import CONDITIONS

    assert tuple(CONDITIONS) == config_checks._CONDITIONS
    every = setup_cfg("s4_R101.yaml", ["TEST.ROBUSTNESS", str(config_checks._CONDITIONS)])
    assert every.TEST.ROBUSTNESS == config_checks._CONDITIONS
    with pytest.raises(ValueError, match="some of original, silence, .*, got whisper, loud"):
        setup_cfg("s4_R101.yaml", ["TEST.ROBUSTNESS", "('silence','whisper','loud')"])


def test_computed_sounds_do_not_stand_beside_pickles():
    log_mel = ["INPUT.AUDIO_SOURCE", "log_mel", "TEST.ROBUSTNESS"]
    with pytest.raises(ValueError, match="conditions noise are computed.*INPUT.AUDIO_SOURCE wav"):
        setup_cfg("s4_R101.yaml", [*log_mel, "('noise','shuffled')"])
    # The pickles of other clips come from the same program.
    setup_cfg("s4_R101.yaml", [*log_mel, "('offscreen','shuffled')"])


@pytest.mark.parametrize("subset", ["s4", "ms3"])
def test_configs_without_audio_differ_in_the_encoder_alone(subset):
    def without(cfg):
        cfg = cfg.clone()
        cfg.defrost()
        cfg.OUTPUT_DIR = cfg.MODEL.AUDIO.NAME = cfg.MODEL.AUDIO.WEIGHTS = ""
        return cfg.dump()

    deaf = setup_cfg(f"demo/demo_{subset}_no_audio.yaml")
    assert deaf.MODEL.AUDIO.NAME == "NoAudio" and deaf.MODEL.AUDIO.WEIGHTS == ""
    assert without(deaf) == without(setup_cfg(f"demo/demo_{subset}.yaml"))


def test_unknown_key_is_named(tmp_path):
    with pytest.raises(KeyError, match="MODEL.TRANSAVS.QUERIES; near it: .*NUM_QUERIES"):
        setup_cfg("s4_R101.yaml", ["MODEL.TRANSAVS.QUERIES", 3])
    with pytest.raises(KeyError, match="no configuration key"):
        setup_cfg("s4_R101.yaml", ["MODEL.TRANSAVS", 3])
    file = write(tmp_path / "typo.yaml", "MODEL:\n  TRANSAVS:\n    NUM_QUERYS: 3\nVERSION: 2\n")
    with pytest.raises(KeyError, match="NUM_QUERYS"):
        setup_cfg(file)


@pytest.mark.parametrize("text", ["hello", "[1, 2]", "MODEL: 3", ""])
def test_a_file_that_is_no_mapping(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match="mine.yaml: expected YAML of keys and values"):
        setup_cfg(str(path))


def test_missing_file_names_the_nearest():
    with pytest.raises(FileNotFoundError, match="near it: configs/s4_R101.yaml"):
        setup_cfg("s4_R1O1.yaml")


@pytest.mark.parametrize(("options", "message"), [
    (["INPUT.FORMAT", "GBR"], "INPUT.FORMAT must be one of RGB, BGR, got 'GBR'"),
    (["INPUT.AUDIO_SOURCE", "mp3"], "INPUT.AUDIO_SOURCE must be one of wav, log_mel"),
    (["MODEL.TRANSAVS.TARGETS", "masks"], "must be one of union, components, objects, classes"),
    (["MODEL.TRANSAVS.AUDIO_CONTEXT", "frame"], "must be one of clip, window, second"),
    (["MODEL.TRANSAVS.QUERY_POSITION", "sine"], "must be one of learned, none"),
    (["MODEL.TRANSAVS.HEAD", "mlp"], "MODEL.TRANSAVS.HEAD must be one of plain, mask2former"),
    (["INPUT.AUDIO_EMBEDDINGS", "a.safetensors", "INPUT.AUDIO_SOURCE", "log_mel"],
     "set INPUT.AUDIO_SOURCE wav, got 'log_mel'"),
    (["INPUT.AUDIO_EMBEDDINGS", "a.safetensors", "MODEL.AUDIO.FREEZE", "False"],
     "set MODEL.AUDIO.FREEZE True"),
    (["SOLVER.NONFINITE", "ignore"], "SOLVER.NONFINITE must be one of stop, skip, got 'ignore'"),
    (["SOLVER.NONFINITE_LIMIT", -1], "SOLVER.NONFINITE_LIMIT must be 0 steps or more, got -1"),
    (["MODEL.TRANSAVS.INFERENCE.RULE", "max"], "must be one of argmax, semantic_sum"),
    (["INPUT.CLIP_SECONDS", 0], "INPUT.CLIP_SECONDS must be at least 1, got 0"),
    (["INPUT.TRAIN_FRAMES", -1], r"INPUT.TRAIN_FRAMES must be 0 \(all\) or more, got -1"),
    (["INPUT.STRETCH_TEST", "(224,)"], r"STRETCH_TEST must be a height and a width.*got \(224,\)"),
    (["INPUT.STRETCH_TEST", "(0,224)"], "INPUT.STRETCH_TEST must be a height and a width"),
    (["MODEL.TRANSAVS.AUDIO_WINDOW", 4], "must be an odd number"),
    (["MODEL.TRANSAVS.TARGETS", "classes", "MODEL.TRANSAVS.NUM_CLASSES", 255], "at most 254"),
    (["MODEL.TRANSAVS.HIDDEN_DIM", 100], r"HIDDEN_DIM \(100\) must be a multiple of"),
    (["MODEL.TRANSAVS.HIDDEN_DIM", 16], r"TRANSAVS.HIDDEN_DIM \(16\) .*PIXEL_DECODER.NORM GN"),
    (["MODEL.TRANSAVS.AQDL_THRESHOLD", "[0.5]"], r"AQDL_THRESHOLD must be two probabilities"),
    (["MODEL.TRANSAVS.AQML_THRESHOLD", "[0.5, 1.5]"], r"AQML_THRESHOLD must be two probabilities"),
    (["MODEL.TPAVI.STAGES", "('res1','res2')"], "MODEL.TPAVI.STAGES must be some of .*res5"),
    (["MODEL.TPAVI.STAGES", "()"], "MODEL.TPAVI.STAGES must be some of"),
    (["MODEL.TPAVI.CHANNELS", 1], "MODEL.TPAVI.CHANNELS must be at least 2, got 1"),
    (["MODEL.TPAVI.AVM_WEIGHT", -1.0], "MODEL.TPAVI.AVM_WEIGHT must be at least 0"),
    (["SOLVER.MAX_ITER", 0], "SOLVER.MAX_ITER must be at least 1, got 0"),
    (["SOLVER.CHECKPOINT_PERIOD", 0], "SOLVER.CHECKPOINT_PERIOD must be at least 1, got 0"),
    (["SOLVER.BASE_LR", -0.1], "SOLVER.BASE_LR must be at least 0, got -0.1"),
    (["SOLVER.BASE_LR", "1e999"], "SOLVER.BASE_LR must be at least 0, got inf"),
    (["DATALOADER.NUM_WORKERS", -1], "DATALOADER.NUM_WORKERS must be at least 0, got -1"),
    (["MODEL.TRANSAVS.AGREEMENT_WEIGHT", -1.0], "AGREEMENT_WEIGHT must be at least 0, got -1"),
    (["MODEL.TRANSAVS.DICE_WEIGHT", -1.0], "DICE_WEIGHT must be at least 0, got -1"),
    (["INPUT.COLOR_JITTER", 1.0], r"INPUT.COLOR_JITTER must lie in \[0, 1\), got 1.0"),
    (["SOLVER.AMP.PRECISION", "int8"], "SOLVER.AMP.PRECISION must be one of bf16, fp16"),
    (["MODEL.TPAVI.NORM", "LN"], "MODEL.TPAVI.NORM must be one of BN, SyncBN, naiveSyncBN"),
    (["MODEL.TRANSAVS.NUM_QUERIES", "many"], "Type mismatch"),
    (["MODEL.TRANSAVS.NUM_QUERIES"], "pairs KEY VALUE, got an odd number"),
])  # fmt: skip
def test_wrong_values_are_told(options, message):
    with pytest.raises(ValueError, match=message):
        setup_cfg("s4_R101.yaml", options)


@pytest.mark.parametrize("where", ["file", "base"])
def test_yaml_that_runs_code_is_refused(tmp_path, where):
    made = tmp_path / "made by the yaml"
    attack = f'OUTPUT_DIR: !!python/object/apply:os.mkdir ["{made}"]\nVERSION: 2\n'
    file = write(tmp_path / "attack.yaml", attack)
    if where == "base":
        file = write(tmp_path / "outer.yaml", "_BASE_: attack.yaml\nVERSION: 2\n")
    with pytest.raises(Exception, match="python/object/apply"):
        setup_cfg(file)
    assert not made.exists()
